/* Events about the Node, sent and forgotten. A repetition joins the series of the first one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"

#define EVENTS_MAX 16         /* remembered; also the most that wait for an answer */
#define SERIES_MS (6 * 60000) /* kubernetes/client-go tools/events: a series ends after 6 minutes */
#define SERIES_WRITE_MS 60000 /* a running series is written at least so often when it goes on */
#define EVENT_DEADLINE_MS 60000

struct event {
    struct events *all;
    bool used, busy; /* busy: a request is under way */
    char *name;
    char *type, *reason, *note;
    unsigned count, written;
    int64_t last_ms, written_ms;
};

struct events {
    struct kube *kube;
    struct event list[EVENTS_MAX];
    unsigned serial;
    char denied[300];
};

static void forget(struct event *e)
{
    struct events *all = e->all;
    free(e->name);
    free(e->type);
    free(e->reason);
    free(e->note);
    *e = (struct event){.all = all};
}

static void write_series(struct event *e);

static bool is_due(const struct event *e, int64_t now)
{
    bool doubled = e->count >= 2 * e->written;
    return e->count > e->written && (doubled || now - e->written_ms >= SERIES_WRITE_MS);
}

static void note_denied(struct events *all, const struct kube_result *result)
{
    bool denied = result->err.code == EACCES;
    if (denied && !*all->denied)
        log_warning("Events cannot be written", "error", result->err.msg, NULL);
    if (denied || result->err.code == 0)
        (void)snprintf(all->denied, sizeof all->denied, "%.280s", denied ? result->err.msg : "");
}

const char *kube_events_denied(const struct kube *kube)
{
    return kube->events ? kube->events->denied : "";
}

static void on_written(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct event *e = arg;
    (void)object;
    e->busy = false;
    note_denied(e->all, result);
    if (result->err.code && result->err.code != EEXIST) { /* EEXIST: the first try did arrive */
        e->all->kube->stats.events_dropped++;
        forget(e);
        return;
    }
    if (is_due(e, loop_now_ms(e->all->kube->loop)))
        write_series(e);
}

static void begin_write(struct event *e)
{
    e->busy = true;
    e->written = e->count;
    e->written_ms = loop_now_ms(e->all->kube->loop);
}

static void write_series(struct event *e)
{
    AUTO_FREE char *path =
        xasprintf("/apis/events.k8s.io/v1/namespaces/default/events/%s", e->name);
    begin_write(e);
    AUTO_FREE char *body = body_event_series(e->count, wall_us());
    struct call_spec spec = {.verb = "patch",
                             .resource = "events.events.k8s.io",
                             .method = "PATCH",
                             .path = path,
                             .accept = ACCEPT_OBJECT,
                             .content_type = "application/merge-patch+json",
                             .body = body,
                             .deadline_ms = EVENT_DEADLINE_MS};
    (void)call_start(e->all->kube, &spec, on_written, e);
}

static void write_first(struct event *e, const char *action)
{
    struct kube *kube = e->all->kube;
    struct event_text text = {.name = e->name,
                              .node = kube->node_name,
                              .type = e->type,
                              .reason = e->reason,
                              .action = action,
                              .note = e->note,
                              .instance = kube->node_name};
    begin_write(e);
    AUTO_FREE char *body = body_event(&text, wall_us());
    struct call_spec spec = {.verb = "create",
                             .resource = "events.events.k8s.io",
                             .method = "POST",
                             .path = "/apis/events.k8s.io/v1/namespaces/default/events"
                                     "?fieldManager=ccnode",
                             .accept = ACCEPT_OBJECT,
                             .content_type = "application/json",
                             .body = body,
                             .deadline_ms = EVENT_DEADLINE_MS};
    (void)call_start(kube, &spec, on_written, e);
}

static struct event *find(struct events *all, const char *type, const char *reason,
                          const char *note, int64_t now)
{
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        struct event *e = &all->list[i];
        if (e->used && strcmp(e->type, type) == 0 && strcmp(e->reason, reason) == 0 &&
            strcmp(e->note, note) == 0 && now - e->last_ms < SERIES_MS)
            return e;
    }
    return NULL;
}

/* A free place, else the one whose series is quiet for the longest; NULL when all wait for the server. */
static struct event *find_place(struct events *all)
{
    struct event *oldest = NULL;
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        struct event *e = &all->list[i];
        if (!e->used)
            return e;
        if (!e->busy && (!oldest || e->last_ms < oldest->last_ms))
            oldest = e;
    }
    if (oldest)
        forget(oldest);
    return oldest;
}

void kube_event(struct kube *kube, const char *type, const char *reason, const char *action,
                const char *note)
{
    if (kube->closing)
        return;
    if (!kube->events) {
        kube->events = xcalloc(1, sizeof *kube->events);
        kube->events->kube = kube;
        for (size_t i = 0; i < EVENTS_MAX; i++)
            kube->events->list[i].all = kube->events;
    }
    int64_t now = loop_now_ms(kube->loop);
    struct event *e = find(kube->events, type, reason, note, now);
    if (e) {
        e->count++;
        e->last_ms = now;
        if (!e->busy && is_due(e, now))
            write_series(e);
        return;
    }
    e = find_place(kube->events);
    if (!e) {
        kube->stats.events_dropped++;
        return;
    }
    e->used = true;
    e->type = xstrdup(strcmp(type, "Warning") == 0 ? "Warning" : "Normal");
    e->reason = xstrdup(reason);
    e->note = xstrdup(note);
    e->count = 1;
    e->last_ms = now;
    /* unique also across restarts within one microsecond; the suffix must not push the name above 253 */
    e->name = xasprintf("%.200s.%llx%04x", kube->node_name, (unsigned long long)wall_us(),
                        kube->events->serial++ & 0xffffU);
    write_first(e, action);
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < EVENTS_MAX; i++)
        forget(&events->list[i]);
    free(events);
}
