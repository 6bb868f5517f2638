#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/framing.h"
#include "node-agent/kube/node.h"

#define TRY_TIMEOUT_MS 15000 /* of one attempt; the deadline may allow several */

struct call {
    struct kube *kube;
    struct call *next;
    struct call_spec spec;
    char *path, *body;
    struct http_call *http;
    struct loop_timer *timer;
    struct backoff backoff;
    int64_t deadline_ms;
    int retry_after_ms;
    bool token_retried;
    char answered[256]; /* what the server said last when it was asked again; "" = nothing yet */
    call_cb *cb;
    void *arg;
};

/* --- counters --- */

void stats_request(struct kube *kube, const char *verb, int status)
{
    struct kube_stats *s = &kube->stats;
    char code[8];
    (void)snprintf(code, sizeof code, "%s", "error");
    if (status >= 100 && status <= 999)
        (void)snprintf(code, sizeof code, "%d", status);
    for (size_t i = 0; i < s->n_requests; i++)
        if (strcmp(s->requests[i].verb, verb) == 0 && strcmp(s->requests[i].code, code) == 0) {
            s->requests[i].count++;
            return;
        }
    if (s->n_requests == KUBE_STATS_CODES)
        return; /* 6 verbs and the codes a server really uses fit; a hostile one cannot grow us */
    (void)snprintf(s->requests[s->n_requests].verb, sizeof s->requests[0].verb, "%s", verb);
    (void)snprintf(s->requests[s->n_requests].code, sizeof s->requests[0].code, "%s", code);
    s->requests[s->n_requests++].count = 1;
}

void stats_restart(struct kube *kube, const char *reason)
{
    struct kube_stats *s = &kube->stats;
    for (size_t i = 0; i < s->n_restarts; i++)
        if (strcmp(s->restarts[i].reason, reason) == 0) {
            s->restarts[i].count++;
            return;
        }
    if (s->n_restarts == KUBE_STATS_REASONS)
        return;
    (void)snprintf(s->restarts[s->n_restarts].reason, sizeof s->restarts[0].reason, "%s", reason);
    s->restarts[s->n_restarts++].count = 1;
}

/* --- what an answer means --- */

static int code_of_status(int status, const char *reason)
{
    switch (status) {
    case 401:
    case 403:
        return EACCES;
    case 404:
        return ENOENT;
    case 409:
        return strcmp(reason, "AlreadyExists") == 0 ? EEXIST : ESTALE;
    case 400:
    case 406:
    case 415:
    case 422:
        return EINVAL;
    default:
        return EREMOTEIO;
    }
}

/* The message of a Status object; else the beginning of what came, printable. */
static char *answer_words(const struct http_answer *answer, char *ret_reason, size_t room)
{
    struct err ignored = ERR_INIT;
    ret_reason[0] = 0;
    struct json_object *status = json_parse_whole(answer->body, answer->len, &ignored);
    const char *message = status ? json_text(status, 8192, "message", NULL) : NULL;
    const char *reason = status ? json_text(status, 64, "reason", NULL) : NULL;
    if (reason)
        (void)snprintf(ret_reason, room, "%s", reason);
    char *words = text_clean(message ? message : answer->body, message ? 350 : 80);
    json_object_put(status);
    return words;
}

int answer_check(const struct http_answer *answer, const char *verb, const char *resource,
                 struct err *err)
{
    if (answer->err.code) {
        *err = answer->err;
        return err_wrap(err, -err->code, "%s %s", verb, resource);
    }
    if (answer->status >= 200 && answer->status < 300)
        return 0;
    char reason[64];
    AUTO_FREE char *words = answer_words(answer, reason, sizeof reason);
    int code = code_of_status(answer->status, reason);
    err->device_status = (uint32_t)answer->status;
    if (answer->status == 403)
        return err_set(err, code,
                       "%s %s is forbidden (403): the service account needs the verb \"%s\" on "
                       "\"%s\": %s",
                       verb, resource, verb, resource, words);
    if (answer->status == 401)
        return err_set(err, code, "%s %s: the API server does not accept our credentials (401): %s",
                       verb, resource, words);
    return err_set(err, code, "%s %s: the API server answered %d %s: %s", verb, resource,
                   answer->status, reason, words);
}

/* Can the same request succeed later? */
static bool is_transient(const struct http_answer *answer, const struct err *err)
{
    switch (answer->status) {
    case 0:
        return err->code != EFBIG;
    case 401:
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return true;
    default:
        return err->code == EBADMSG;
    }
}

/* --- life of a call --- */

static void unlink_call(struct call *call)
{
    for (struct call **p = &call->kube->calls; *p; p = &(*p)->next)
        if (*p == call) {
            *p = call->next;
            return;
        }
}

static void free_call(struct call *call)
{
    unlink_call(call);
    http_cancel(call->http);
    loop_cancel(call->timer);
    free(call->path);
    free(call->body);
    free(call);
}

void call_cancel(struct call *call)
{
    if (call)
        free_call(call);
}

static void finish(struct call *call, int status, const struct err *err, struct json_object *object)
{
    struct kube_result result = {.status = status,
                                 .retry_after_ms = call->retry_after_ms,
                                 .resource_version = "",
                                 .err = *err};
    const char *version =
        object ? json_text(object, NODE_MAX_TEXT, "metadata", "resourceVersion", NULL) : NULL;
    if (version)
        result.resource_version = version;
    call_cb *cb = call->cb;
    void *arg = call->arg;
    free_call(call); /* first: the callback may free what the call belongs to */
    if (cb)
        cb(arg, &result, object);
}

static void attempt(struct call *call);

static void on_retry(void *arg)
{
    struct call *call = arg;
    call->timer = NULL;
    attempt(call);
}

static void repeat_in(struct call *call, int delay_ms)
{
    call->timer = loop_add_timer(call->kube->loop, delay_ms, on_retry, call);
}

static struct creds *creds_of(struct call *call)
{
    struct kube *kube = call->kube;
    return call->spec.evicting && kube->evict_creds.server ? &kube->evict_creds : &kube->creds;
}

/* Waits and repeats when that can help before the deadline. */
static bool repeat(struct call *call, const struct http_answer *answer, const struct err *err)
{
    struct err ignored = ERR_INIT;
    int64_t now = loop_now_ms(call->kube->loop);
    if (answer->status == 406 && !call->kube->full_objects) {
        call->kube->full_objects = true;
        repeat_in(call, 0);
        return true;
    }
    if (answer->status == 401 && !call->token_retried) {
        call->token_retried = true;
        (void)creds_refresh(creds_of(call), now, true, &ignored);
        repeat_in(call, 0);
        return true;
    }
    if (call->spec.once || !is_transient(answer, err))
        return false;
    int wait = backoff_wait(&call->backoff, answer->retry_after_ms, random_u32());
    if (now + wait >= call->deadline_ms)
        return false;
    if (answer->status == 401)
        (void)creds_refresh(creds_of(call), now, true, &ignored);
    repeat_in(call, wait);
    return true;
}

/* The code stays: only the server knows what became of the last attempt. */
static void tell_answered(const struct call *call, struct err *err)
{
    struct err last = *err;
    (void)err_set(err, last.code, "%.220s; before that: %s", last.msg, call->answered);
}

static void on_answer(void *arg, const struct http_answer *answer)
{
    struct call *call = arg;
    struct json_object *object = NULL;
    struct err err = ERR_INIT;
    call->http = NULL;
    call->retry_after_ms = answer->retry_after_ms;
    stats_request(call->kube, call->spec.verb, answer->status);
    int r = answer_check(answer, call->spec.verb, call->spec.resource, &err);
    if (r == 0) {
        object = json_parse_whole(answer->body, answer->len, &err);
        if (!object)
            r = err_wrap(&err, -EBADMSG, "%s %s: answer %d", call->spec.verb, call->spec.resource,
                         answer->status);
    }
    if (r < 0 && answer->status != 0)
        (void)snprintf(call->answered, sizeof call->answered, "%.255s", err.msg);
    if (r < 0 && repeat(call, answer, &err))
        return;
    if (r < 0 && answer->status == 0 && *call->answered)
        tell_answered(call, &err);
    if (r < 0 && answer->status == 429 && call->spec.evicting)
        err.code = EBUSY;
    finish(call, answer->status, &err, object);
    json_object_put(object);
}

static void attempt(struct call *call)
{
    struct kube *kube = call->kube;
    struct err err = ERR_INIT;
    int64_t now = loop_now_ms(kube->loop);
    if (!call->path) {
        finish(call, 0, &err, NULL);
        return;
    }
    struct creds *creds = creds_of(call);
    (void)creds_refresh(creds, now, false, &err); /* the old token may still do; 401 tells */
    int64_t left = call->deadline_ms - now;
    struct http_request rq = {.creds = creds,
                              .user_agent = kube->user_agent,
                              .method = call->spec.method,
                              .path = call->path,
                              .accept = kube->full_objects ? ACCEPT_FULL : call->spec.accept,
                              .content_type = call->spec.content_type,
                              .body = call->body,
                              .timeout_ms = left < 1                ? 1
                                            : left < TRY_TIMEOUT_MS ? (int)left
                                                                    : TRY_TIMEOUT_MS,
                              .on_done = on_answer,
                              .arg = call};
    call->http = http_start(kube->http, &rq);
}

struct call *call_start(struct kube *kube, const struct call_spec *spec, call_cb *cb, void *arg)
{
    if (kube->closing)
        return NULL; /* started by a callback of kube_free(): forgotten */
    struct call *call = xcalloc(1, sizeof *call);
    *call = (struct call){
        .kube = kube,
        .next = kube->calls,
        .spec = *spec,
        .path = spec->path ? xstrdup(spec->path) : NULL,
        .body = spec->body ? xstrdup(spec->body) : NULL,
        .backoff = {.min_ms = kube->backoff_min_ms / 4 + 1, .max_ms = kube->backoff_max_ms},
        .retry_after_ms = -1,
        .cb = cb,
        .arg = arg};
    kube->calls = call;
    call->deadline_ms =
        loop_now_ms(kube->loop) + (spec->deadline_ms > 0 ? spec->deadline_ms : DEFAULT_DEADLINE_MS);
    repeat_in(call, 0); /* never a callback from inside the function that started it */
    return call;
}

void call_abort_all(struct kube *kube)
{
    while (kube->calls) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ECANCELED, "%s %s: the client is being closed", kube->calls->spec.verb,
                      kube->calls->spec.resource);
        finish(kube->calls, 0, &err, NULL);
    }
}
