#include "node-agent/kube/bodies.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/auto.h"

int64_t wall_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static size_t date_text(int64_t us, char ret[32])
{
    struct tm tm;
    time_t s = (time_t)(us / 1000000);
    (void)gmtime_r(&s, &tm);
    return strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
}

void time_text(int64_t us, char ret[32])
{
    size_t n = date_text(us, ret);
    (void)snprintf(ret + n, 32 - n, "Z");
}

void micro_time_text(int64_t us, char ret[32])
{
    size_t n = date_text(us, ret);
    (void)snprintf(ret + n, 32 - n, ".%06uZ", (unsigned)(us % 1000000));
}

/* Length of the valid UTF-8 character at @p, 0 = invalid (RFC 3629: no overlong forms, surrogates, above U+10FFFF). */
static size_t utf8_length(const unsigned char *p)
{
    static const unsigned lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80             ? 1
               : (p[0] & 0xe0) == 0xc0 ? 2
               : (p[0] & 0xf0) == 0xe0 ? 3
               : (p[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    if (n <= 1)
        return n;
    unsigned code = p[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    return code < lowest[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

char *text_clean(const char *text, size_t max)
{
    const unsigned char *p = (const unsigned char *)(text ? text : "");
    size_t len = strlen((const char *)p), n = 0;
    char *out = xmalloc((len < max ? len : max) + 1);
    while (*p) {
        size_t step = utf8_length(p);
        if (n + (step ? step : 1) > max)
            break;
        if (step > 1)
            memcpy(out + n, p, step);
        else if (*p == '\n' || *p == '\t' || *p == '\r')
            out[n] = ' ';
        else
            out[n] = step == 0 || *p < ' ' || *p == 0x7f ? '?' : (char)*p;
        n += step ? step : 1;
        p += step ? step : 1;
    }
    out[n] = 0;
    return out;
}

char *url_escape(const char *text)
{
    static const char unreserved[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    char *out = xmalloc(strlen(text) * 3 + 1), *q = out;
    for (const char *p = text; *p; p++) {
        if (strchr(unreserved, *p))
            *q++ = *p;
        else
            q += sprintf(q, "%%%02X", (unsigned char)*p);
    }
    *q = 0;
    return out;
}

/* --- JSON --- */

static struct json_object *add_object(struct json_object *to, const char *key)
{
    struct json_object *o = json_object_new_object();
    (void)json_object_object_add(to, key, o);
    return o;
}

static void add_text(struct json_object *to, const char *key, const char *text)
{
    (void)json_object_object_add(to, key, json_object_new_string(text));
}

static void add_clean(struct json_object *to, const char *key, const char *text, size_t max)
{
    AUTO_FREE char *clean = text_clean(text, max);
    add_text(to, key, clean);
}

static char *finish(struct json_object *o)
{
    char *text = xstrdup(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(o);
    return text;
}

static void add_pairs(struct json_object *meta, const char *name, const struct kube_pair *pairs,
                      size_t n)
{
    if (!n)
        return;
    struct json_object *map = add_object(meta, name);
    for (size_t i = 0; i < n; i++)
        (void)json_object_object_add(
            map, pairs[i].key, pairs[i].value ? json_object_new_string(pairs[i].value) : NULL);
}

char *body_patch(const struct kube_patch *patch)
{
    struct json_object *o = json_object_new_object();
    struct json_object *meta = add_object(o, "metadata");
    if (patch->resource_version && *patch->resource_version)
        add_text(meta, "resourceVersion", patch->resource_version);
    add_pairs(meta, "labels", patch->labels, patch->n_labels);
    add_pairs(meta, "annotations", patch->annotations, patch->n_annotations);
    return finish(o);
}

char *body_condition(const struct kube_condition *condition, int64_t now_us)
{
    char now[32], since[32];
    time_text(now_us, now);
    time_text(condition->transition_ms ? condition->transition_ms * 1000 : now_us, since);
    struct json_object *c = json_object_new_object();
    add_text(c, "type", condition->type);
    add_text(c, "status", condition->status);
    add_text(c, "lastHeartbeatTime", now);
    add_text(c, "lastTransitionTime", since);
    add_clean(c, "reason", condition->reason, 1024);
    add_clean(c, "message", condition->message, BODY_MESSAGE_MAX);
    struct json_object *list = json_object_new_array();
    (void)json_object_array_add(list, c);
    struct json_object *o = json_object_new_object();
    (void)json_object_object_add(add_object(o, "status"), "conditions", list);
    return finish(o);
}

char *body_condition_removed(const char *type)
{
    struct json_object *c = json_object_new_object();
    add_text(c, "$patch", "delete");
    add_text(c, "type", type);
    struct json_object *list = json_object_new_array();
    (void)json_object_array_add(list, c);
    struct json_object *o = json_object_new_object();
    (void)json_object_object_add(add_object(o, "status"), "conditions", list);
    return finish(o);
}

char *body_event(const struct event_text *event, int64_t now_us)
{
    char now[32];
    micro_time_text(now_us, now);
    struct json_object *o = json_object_new_object();
    add_text(o, "apiVersion", "events.k8s.io/v1");
    add_text(o, "kind", "Event");
    struct json_object *meta = add_object(o, "metadata");
    add_text(meta, "name", event->name);
    add_text(meta, "namespace", "default"); /* where Events of cluster-scoped objects belong */
    add_text(o, "eventTime", now);
    add_text(o, "type", event->type);
    add_clean(o, "reason", event->reason, BODY_WORD_MAX);
    add_clean(o, "action", event->action, BODY_WORD_MAX);
    add_clean(o, "note", event->note, BODY_NOTE_MAX);
    add_text(o, "reportingController", "ccnode.io/agent");
    add_clean(o, "reportingInstance", event->instance, BODY_WORD_MAX);
    struct json_object *regarding = add_object(o, "regarding");
    add_text(regarding, "apiVersion", "v1");
    add_text(regarding, "kind", "Node");
    add_text(regarding, "name", event->node);
    add_text(regarding, "uid",
             event->node); /* the kubelet's custom; kubectl describe node looks for it */
    return finish(o);
}

char *body_event_series(unsigned count, int64_t now_us)
{
    char now[32];
    micro_time_text(now_us, now);
    struct json_object *o = json_object_new_object();
    struct json_object *series = add_object(o, "series");
    (void)json_object_object_add(series, "count", json_object_new_int64(count));
    add_text(series, "lastObservedTime", now);
    return finish(o);
}

char *body_eviction(const char *namespace_, const char *name, const char *uid)
{
    struct json_object *o = json_object_new_object();
    add_text(o, "apiVersion", "policy/v1");
    add_text(o, "kind", "Eviction");
    struct json_object *meta = add_object(o, "metadata");
    add_text(meta, "name", name);
    add_text(meta, "namespace", namespace_);
    /* a pod of the same name made since we looked is another pod */
    add_text(add_object(add_object(o, "deleteOptions"), "preconditions"), "uid", uid);
    return finish(o);
}

char *body_lease(const struct lease_text *lease, int64_t now_us)
{
    char now[32];
    micro_time_text(now_us, now);
    struct json_object *o = json_object_new_object();
    add_text(o, "apiVersion", "coordination.k8s.io/v1");
    add_text(o, "kind", "Lease");
    struct json_object *meta = add_object(o, "metadata");
    add_text(meta, "name", lease->name);
    add_text(meta, "namespace", lease->namespace_);
    add_text(add_object(meta, "labels"), "ccnode.io/semaphore", lease->semaphore);
    if (lease->resource_version)
        add_text(meta, "resourceVersion", lease->resource_version);
    struct json_object *spec = add_object(o, "spec");
    add_text(spec, "holderIdentity", lease->holder);
    (void)json_object_object_add(spec, "leaseDurationSeconds",
                                 json_object_new_int64(lease->duration_s));
    (void)json_object_object_add(spec, "leaseTransitions",
                                 json_object_new_int64(lease->transitions));
    add_text(spec, "acquireTime", lease->acquire_time ? lease->acquire_time : now);
    add_text(spec, "renewTime", now);
    return finish(o);
}
