/* The own Node: list, then watch, for ever. See the table in kube.h. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/framing.h"
#include "node-agent/kube/node.h"

/* Life of one watch in seconds, drawn anew each time; the range that client-go's reflector spreads over is 5 to 10 min, the
 * server's own default 30 to 60 min. Short enough to notice a lost event, long enough not to cost anything. */
#define WATCH_MIN_S 240
#define WATCH_SPREAD_S 240
#define WATCH_SLACK_S 30
#define SETTLED_MS 10000 /* a watch that lived so long ends a row of failures */
#define FORBIDDEN_FAILURES 4

struct watch {
    struct kube *kube;
    struct call *list;
    struct http_call *stream;
    struct framing *framing;
    struct loop_timer *timer;
    struct backoff backoff;
    bool progress; /* the stream has brought a change of the Node */
    char *version; /* to watch from; NULL = list first */
    struct kube_node node;
    bool node_known; /* delivered once */
    bool expired, failed_event;
    bool told, up;
    bool token_retried;
    int64_t opened_ms; /* 0 = the stream is not open */
};

static void start_list(struct watch *w);
static void start_stream(struct watch *w);

static void tell(struct watch *w, bool up, const char *reason)
{
    if (w->told && w->up == up)
        return;
    w->told = true;
    w->up = w->kube->stats.watch_up = up;
    if (w->kube->on_watch_state)
        w->kube->on_watch_state(w->kube->arg, up, reason);
}

static void on_timer(void *arg)
{
    struct watch *w = arg;
    w->timer = NULL;
    if (w->version)
        start_stream(w);
    else
        start_list(w);
}

static void again_in(struct watch *w, int delay_ms)
{
    loop_cancel(w->timer);
    w->timer = loop_add_timer(w->kube->loop, delay_ms, on_timer, w);
}

static void forget_version(struct watch *w)
{
    free(w->version);
    w->version = NULL;
}

static void set_version(struct watch *w, const char *version)
{
    if (w->version && strcmp(w->version, version) == 0)
        return;
    free(w->version);
    w->version = xstrdup(version);
}

/* A failure: down, and again after the backoff. */
static void fail(struct watch *w, const char *reason, int retry_after_ms, const struct err *err)
{
    stats_restart(w->kube, reason);
    if (err->code == EACCES && w->backoff.failures < FORBIDDEN_FAILURES)
        w->backoff.failures = FORBIDDEN_FAILURES; /* only a person can help: ask slowly */
    again_in(w, backoff_wait(&w->backoff, retry_after_ms, random_u32()));
    tell(w, false, err->msg);
}

static const char *reason_of(const struct err *err)
{
    switch (err->code) {
    case EBADMSG:
    case EFBIG:
        return "bad_data";
    case ETIMEDOUT:
        return "stalled";
    case ENETUNREACH:
        return "connection";
    default:
        return "http";
    }
}

/* Takes over @node; tells the agent when something it asked for is new. */
static void take_node(struct watch *w, struct kube_node *node)
{
    bool same = w->node_known && node_is_same(&w->node, node);
    node_done(&w->node);
    w->node = *node;
    *node = (struct kube_node){0};
    w->node_known = true;
    if (same)
        return;
    w->kube->stats.node_changes++;
    w->kube->on_node(w->kube->arg, &w->node);
}

/* --- list --- */

static void on_list(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct watch *w = arg;
    struct kube_node node = {0};
    struct err err = result->err;
    w->list = NULL;
    if (err.code == ECANCELED)
        return;
    const char *version;
    int r = err.code ? -err.code
                     : node_list_decode(object, w->kube->node_name, w->kube->keys, &node, &version,
                                        &err);
    if (r < 0) {
        fail(w, reason_of(&err), result->retry_after_ms, &err);
        return;
    }
    set_version(w, version);
    w->expired = false;
    start_stream(w); /* before the agent acts on what it learns: its requests queue behind */
    take_node(w, &node);
}

static void start_list(struct watch *w)
{
    AUTO_FREE char *path =
        xasprintf("/api/v1/nodes?fieldSelector=metadata.name%%3D%s&limit=1", w->kube->node_name);
    struct call_spec spec = {.verb = "list",
                             .resource = "nodes",
                             .method = "GET",
                             .path = path,
                             .accept = ACCEPT_LIST,
                             .once = true};
    forget_version(w);
    w->list = call_start(w->kube, &spec, on_list, w);
}

/* --- stream --- */

static int on_document(void *arg, struct json_object *doc, struct err *err)
{
    struct watch *w = arg;
    enum watch_event event = WATCH_ERROR;
    struct json_object *object = NULL;
    int r = watch_event_decode(doc, &event, &object, err);
    if (r < 0)
        return r;
    w->kube->stats.watch_documents++;
    if (event == WATCH_EXPIRED || event == WATCH_ERROR) {
        w->expired = event == WATCH_EXPIRED;
        w->failed_event = true;
        return -err->code; /* ends the stream; what next is decided there */
    }
    if (event == WATCH_BOOKMARK) {
        const char *version = json_text(object, NODE_MAX_TEXT, "metadata", "resourceVersion", NULL);
        if (!version)
            return err_set(err, EBADMSG, "a bookmark without resourceVersion");
        set_version(w, version);
        return 0;
    }
    struct kube_node node = {0};
    r = node_decode(object, w->kube->node_name, w->kube->keys, &node, err);
    if (r < 0)
        return r;
    set_version(w, node.resource_version);
    w->progress = true;
    if (event == WATCH_DELETED)
        node_done(&node); /* exists = false */
    take_node(w, &node);
    return 0;
}

static void on_open(void *arg)
{
    struct watch *w = arg;
    w->opened_ms = loop_now_ms(w->kube->loop);
    w->token_retried = false;
    stats_request(w->kube, "watch", 200);
    tell(w, true, "");
}

static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct watch *w = arg;
    return framing_feed(w->framing, data, len, err);
}

/* The server's timeout: the normal end. */
static void ended_cleanly(struct watch *w, int64_t lived_ms)
{
    struct err err = ERR_INIT;
    if (lived_ms >= w->kube->backoff_min_ms) {
        stats_restart(w->kube, "timeout");
        again_in(w, 0);
        return;
    }
    (void)err_set(&err, EREMOTEIO, "the API server ends watches at once");
    fail(w, "timeout", -1, &err);
}

static void ended_expired(struct watch *w, const struct err *err)
{
    forget_version(w);
    if (w->backoff.failures) {
        fail(w, "expired", -1, err);
        return;
    }
    w->backoff.failures =
        1; /* once at once; a server that says so every time must not make us spin */
    stats_restart(w->kube, "expired");
    again_in(w, 0);
}

/* 401 and 406 of the stream itself have one cure that needs no waiting. */
static bool cured(struct watch *w, int status)
{
    struct err ignored = ERR_INIT;
    if (status == 401 && !w->token_retried) {
        w->token_retried = true;
        (void)creds_refresh(&w->kube->creds, loop_now_ms(w->kube->loop), true, &ignored);
    } else if (status == 406 && !w->kube->full_objects) {
        w->kube->full_objects = true;
    } else {
        return false;
    }
    stats_restart(w->kube, "http");
    again_in(w, 0);
    return true;
}

static void on_stream_done(void *arg, const struct http_answer *answer)
{
    struct watch *w = arg;
    struct err err = ERR_INIT;
    int64_t lived = w->opened_ms ? loop_now_ms(w->kube->loop) - w->opened_ms : 0;
    bool opened = w->opened_ms != 0;
    w->stream = NULL;
    w->opened_ms = 0;
    framing_free(TAKE(w->framing));
    if (!opened)
        stats_request(w->kube, "watch", answer->status);
    if (lived >= SETTLED_MS)
        w->backoff.failures = 0;
    else if (w->progress && w->backoff.failures > 1)
        w->backoff.failures =
            1; /* it brings news before it breaks: an order must not wait a minute */
    w->progress = false;
    int r = answer_check(answer, "watch", "nodes", &err);
    if (w->expired || (!opened && answer->status == 410)) {
        w->expired = w->failed_event = false;
        ended_expired(w, &err);
    } else if (r == 0) {
        ended_cleanly(w, lived);
    } else if (opened || !cured(w, answer->status)) {
        const char *reason = w->failed_event ? "error" : reason_of(&err);
        if (w->failed_event || err.code == EBADMSG || err.code == EFBIG)
            forget_version(w); /* what we know may be wrong: list again */
        w->failed_event = false;
        fail(w, reason, answer->retry_after_ms, &err);
    }
}

static void start_stream(struct watch *w)
{
    struct kube *kube = w->kube;
    struct err ignored = ERR_INIT;
    unsigned life_s = WATCH_MIN_S + random_u32() % WATCH_SPREAD_S;
    AUTO_FREE char *version = url_escape(w->version);
    AUTO_FREE char *path =
        xasprintf("/api/v1/nodes?watch=1&fieldSelector=metadata.name%%3D%s&resourceVersion=%s"
                  "&allowWatchBookmarks=true&timeoutSeconds=%u",
                  kube->node_name, version, life_s);
    (void)creds_refresh(&kube->creds, loop_now_ms(kube->loop), false, &ignored);
    struct http_request rq = {.creds = &kube->creds,
                              .user_agent = kube->user_agent,
                              .method = "GET",
                              .path = path,
                              .accept = kube->full_objects ? ACCEPT_FULL : ACCEPT_OBJECT,
                              .timeout_ms = (int)(life_s + WATCH_SLACK_S) * 1000,
                              .stream = true,
                              .stall_ms = kube->watch_stall_ms,
                              .on_open = on_open,
                              .on_data = on_data,
                              .on_done = on_stream_done,
                              .arg = w};
    w->framing = framing_new(HTTP_BODY_MAX, on_document, w);
    w->stream = http_start(kube->http, &rq);
}

/* --- public --- */

void kube_watch(struct kube *kube)
{
    if (kube->watch)
        return;
    struct watch *w = xcalloc(1, sizeof *w);
    w->kube = kube;
    w->backoff = (struct backoff){.min_ms = kube->backoff_min_ms, .max_ms = kube->backoff_max_ms};
    kube->watch = w;
    start_list(w);
}

static void relist(void *arg)
{
    struct watch *w = arg;
    w->timer = NULL;
    if (w->list)
        return;
    http_cancel(w->stream);
    w->stream = NULL;
    w->opened_ms = 0;
    framing_free(TAKE(w->framing));
    start_list(w);
}

void kube_refresh(struct kube *kube)
{
    struct watch *w = kube->watch;
    if (!w || w->list)
        return;
    /* not now: this may be called by on_node, from inside the framing */
    loop_cancel(w->timer);
    w->timer = loop_add_timer(kube->loop, 0, relist, w);
}

const struct kube_node *watch_node(const struct watch *w)
{
    return w && w->node_known ? &w->node : NULL;
}

const char *watch_version(const struct watch *w)
{
    return w && w->node.resource_version ? w->node.resource_version : "";
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    call_cancel(w->list);
    http_cancel(w->stream);
    loop_cancel(w->timer);
    framing_free(w->framing);
    free(w->version);
    node_done(&w->node);
    free(w);
}
