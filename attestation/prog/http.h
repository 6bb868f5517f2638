/* Small HTTP requests with hard limits: size, total time, no redirects, retries with backoff on what may pass.
 *
 * libcurl is loaded when the first request is made: most runs never need it, and loading its forty libraries costs more
 * than verifying a GPU. One client belongs to one thread; the connection is kept between requests. */
#ifndef CCN_ATTESTATION_PROG_HTTP_H
#define CCN_ATTESTATION_PROG_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "attestation/ccnattest.h"

struct http;

struct http_request {
    const char *url;
    const char *accept;       /* required content type of the answer */
    const char *content_type; /* NULL: GET */
    const void *body;
    size_t len;
    const char *key; /* bearer key, or NULL; only sent over https or to the own machine */
    size_t max;      /* bytes of the answer */
};

/* http_new() - @timeout_ms: for everything this client will ever do, waiting between attempts included */
struct http *http_new(const char *ca_file, int64_t timeout_ms);
void http_free(struct http *http); /* accepts NULL */
/* http_count() - requests sent so far, retries included */
unsigned http_count(const struct http *http);

/**
 * http_send() - one request, retried while time is left
 * Return: 0 and the body; -ENOENT 404; -EACCES 401 or 403; -ETIMEDOUT, -EHOSTUNREACH, -EFBIG, -EPROTO (redirect, status,
 * content type, truncated) with the URL and what was seen; -ENOSYS when libcurl can't be loaded.
 */
int http_send(struct http *http, const struct http_request *request, struct att_bytes *ret,
              struct err *err);

#endif
