/* One HTTP request or one HTTP stream at a time each, over one curl multi handle nested in the loop.
 *
 * HTTP/1.1 only: with curl 7.88 an HTTP/2 connection that died is used again and again, an HTTP/1.1 one is closed.
 * No redirect, no proxy, no compression, no cookie. Connections are kept and used again; a dead one is noticed by TCP
 * keepalive and TCP_USER_TIMEOUT, a mute server by our own timers (CURLOPT_LOW_SPEED_TIME would see it too, but wakes
 * the process every second while a watch is open).
 * No callback runs inside curl: they may start and cancel calls. One thread.
 */
#ifndef CCN_KUBE_HTTP_H
#define CCN_KUBE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"
#include "node-agent/kube/creds.h"

#define HTTP_BODY_MAX (8U * 1024 * 1024) /* Node objects reach hundreds of KB (list of images) */

struct http;
struct http_call;

struct http_answer {
    int status; /* 0: no answer, see err */
    const char *body;
    size_t len;
    int retry_after_ms;  /* -1: the server did not say */
    const char *warning; /* Warning header (a deprecated API), "" = none */
    struct err err; /* ETIMEDOUT, ENETUNREACH, EBADMSG, EFBIG; a status of 400 or more is no err */
};

struct http_request {
    const struct creds *creds;
    const char *user_agent;
    const char *method; /* "GET" */
    const char *path;   /* "/api/v1/nodes?…", appended to the server */
    const char *accept;
    const char *content_type; /* with a body */
    const char *body;         /* NULL = none; copied */
    int timeout_ms;           /* of the whole call; for a stream of its life */

    /* A stream: 200 answers go piece by piece to on_data, nothing to the answer's body. on_open once, when the header
     * of a 200 answer is there. A negative return of on_data ends the call with that error. */
    bool stream;
    int stall_ms; /* a stream is ended when nothing comes for so long; up to twice as late */
    void (*on_open)(void *arg);
    int (*on_data)(void *arg, const char *data, size_t len, struct err *err);

    void (*on_done)(void *arg, const struct http_answer *answer); /* once, last, unless cancelled */
    void *arg;
};

struct http *http_new(struct loop *loop, struct err *err);
void http_free(struct http *http); /* cancels all; accepts NULL */

/* http_start() - begin; failures come to on_done like all others */
struct http_call *http_start(struct http *http, const struct http_request *request);
void http_cancel(struct http_call *call); /* no callback any more; accepts NULL */

/* http_retry_after() - pure: value of the header in ms (seconds or HTTP date, capped to 10 minutes), -1 = neither */
int http_retry_after(const char *value, long long now_s);

#endif
