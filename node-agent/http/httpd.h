/* Metrics and health over HTTP: /metrics, /healthz, /readyz, /debug/plan. GET and HEAD only.
 *
 * libmicrohttpd in external epoll mode, nested in the loop: no thread, no timer while nobody is connected. At most 32
 * connections, 10 s idle, 16 KiB of request. Bodies are built by callbacks at the time of the request.
 */
#ifndef CCN_HTTP_HTTPD_H
#define CCN_HTTP_HTTPD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"

struct httpd;

struct httpd_options {
    const char *
        listen; /* "127.0.0.1:9408", "[::1]:9408", ":9408" (all addresses), "unix:/run/ccnode/http.sock"; port 0 = any */
    /* Each returns text the server frees; may be NULL (404). */
    char *(*metrics)(void *arg, size_t *ret_len);
    /* before the metrics; may be NULL. Return: false: they come later, after httpd_go_on(), which is not called from here. */
    bool (*prepare_metrics)(void *arg);
    char *(*plan)(void *arg, size_t *ret_len); /* JSON */
    /* ret_text: one line for people, the server frees it; false answers 503. NULL: always "ok". */
    bool (*healthy)(void *arg, char **ret_text);
    bool (*ready)(void *arg, char **ret_text);
    void *arg;
};

/**
 * httpd_new() - listen
 * Return: the server; NULL: EINVAL address (says what is allowed), EADDRINUSE, EADDRNOTAVAIL, EACCES …
 */
struct httpd *httpd_new(struct loop *loop, const struct httpd_options *options, struct err *err);
void httpd_free(struct httpd *httpd); /* closes all; removes a unix socket; accepts NULL */

/* httpd_go_on() - what prepare_metrics() waited for is there: every request that waits is answered now */
void httpd_go_on(struct httpd *httpd);

/* httpd_address() - where it listens, with the real port: "127.0.0.1:43210" */
const char *httpd_address(const struct httpd *httpd);

#endif
