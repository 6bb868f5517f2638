/* N slots as N Leases: a node that holds one may change its mode.
 *
 *   state    | does                                   | next
 *   ---------|----------------------------------------|--------------------------------------------------------
 *   looking  | lists the Leases of the semaphore      | taking; waiting when all are foreign
 *   taking   | creates or updates one                 | held; looking after 409 (somebody was faster)
 *   waiting  | backoff 1 s to 15 s with jitter        | looking
 *   held     | renews at a third of the duration      | looking after 409; lost when not renewed in time
 *
 * A holder is judged dead by our own clock: its resourceVersion did not change for its duration while we looked on
 * (the rule of client-go tools/leaderelection; no clocks are compared).
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/node.h"

#define SLOTS_MAX 256
#define DURATION_S 60
#define WAIT_MAX_MS 15000

struct slot {
    char *version; /* NULL: the Lease does not exist */
    int64_t since_ms;
    char holder[LEASE_HOLDER_SIZE];
    char acquired[LEASE_TIME_SIZE];
    unsigned duration_s, transitions;
    bool seen; /* in the list just read */
};

struct kube_lease {
    struct kube *kube;
    struct kube_lease *next;
    char *name;
    unsigned max, duration_s;
    struct slot *slots;
    unsigned mine; /* index while taking or held */
    bool held;
    bool told_failure;
    int64_t renewed_ms;
    struct call *call;
    struct loop_timer *timer, *expiry;
    struct backoff backoff;
    kube_cb *cb;
    void *arg;
};

static void look(struct kube_lease *l);

static void on_timer(void *arg)
{
    struct kube_lease *l = arg;
    l->timer = NULL;
    look(l);
}

static void look_in(struct kube_lease *l, int delay_ms)
{
    loop_cancel(l->timer);
    l->timer = loop_add_timer(l->kube->loop, delay_ms, on_timer, l);
}

static void tell(struct kube_lease *l, const struct kube_result *result)
{
    l->cb(l->arg, result); /* may release the lease: nothing after it */
}

/* What only a person can put right is told once; all is tried again. */
static void failed(struct kube_lease *l, const struct kube_result *result)
{
    look_in(l, backoff_wait(&l->backoff, result->retry_after_ms, random_u32()));
    bool tell_it =
        !l->told_failure && !l->held && (result->err.code == EACCES || result->err.code == EINVAL);
    if (tell_it) {
        l->told_failure = true;
        tell(l, result);
    }
}

/* --- the list --- */

static void take_slot(struct kube_lease *l, struct slot *s, const struct lease_item *item)
{
    s->seen = true;
    (void)snprintf(s->holder, sizeof s->holder, "%s", item->holder);
    (void)snprintf(s->acquired, sizeof s->acquired, "%s", item->acquired);
    s->duration_s = item->duration_s < 0 ? l->duration_s : (unsigned)item->duration_s;
    s->transitions = item->transitions < 0 ? 0 : (unsigned)item->transitions;
    if (s->version && strcmp(s->version, item->version) == 0)
        return;
    free(s->version);
    s->version = xstrdup(item->version);
    s->since_ms = loop_now_ms(l->kube->loop);
}

static int take_list(struct kube_lease *l, struct json_object *list, struct err *err)
{
    struct json_object *items;
    int n = list_items(list, "Leases", &items, err);
    if (n < 0)
        return n;
    for (unsigned i = 0; i < l->max; i++)
        l->slots[i].seen = false;
    for (int k = 0; k < n; k++) {
        struct lease_item item;
        bool whole = lease_item_decode(json_object_array_get_idx(items, (size_t)k), &item);
        for (unsigned i = 0; whole && i < l->max; i++) {
            AUTO_FREE char *slot = xasprintf("%s-%u", l->name, i);
            if (strcmp(slot, item.name) == 0)
                take_slot(l, &l->slots[i], &item);
        }
    }
    for (unsigned i = 0; i < l->max; i++)
        if (!l->slots[i].seen) {
            free(l->slots[i].version);
            l->slots[i] = (struct slot){0};
        }
    return 0;
}

static bool is_free(const struct slot *s, int64_t now)
{
    return !s->version || !s->holder[0] || now - s->since_ms > (int64_t)s->duration_s * 1000;
}

/* Our own of before a crash first; else a free one, the search begins at another place on every node. */
static int choose(const struct kube_lease *l)
{
    int64_t now = loop_now_ms(l->kube->loop);
    unsigned start = 0;
    for (const char *p = l->kube->node_name; *p; p++)
        start = start * 31 + (unsigned char)*p;
    for (unsigned i = 0; i < l->max; i++)
        if (l->slots[i].version && strcmp(l->slots[i].holder, l->kube->node_name) == 0)
            return (int)i;
    for (unsigned k = 0; k < l->max; k++)
        if (is_free(&l->slots[(start + k) % l->max], now))
            return (int)((start + k) % l->max);
    return -1;
}

/* --- writing a slot --- */

static struct call *write_slot(struct kube_lease *l, const char *holder, call_cb *cb, void *arg)
{
    struct slot *s = &l->slots[l->mine];
    bool changes_hands = strcmp(s->holder, l->kube->node_name) != 0;
    AUTO_FREE char *slot = xasprintf("%s-%u", l->name, l->mine);
    AUTO_FREE char *path =
        xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s?fieldManager=ccnode",
                  l->kube->namespace_, s->version ? "/" : "", s->version ? slot : "");
    struct lease_text text = {.namespace_ = l->kube->namespace_,
                              .name = slot,
                              .semaphore = l->name,
                              .resource_version = s->version,
                              .holder = holder,
                              .duration_s = l->duration_s,
                              .transitions = s->transitions + (changes_hands ? 1 : 0),
                              .acquire_time =
                                  !changes_hands && s->acquired[0] ? s->acquired : NULL};
    AUTO_FREE char *body = body_lease(&text, wall_us());
    struct call_spec spec = {.verb = s->version ? "update" : "create",
                             .resource = "leases.coordination.k8s.io",
                             .method = s->version ? "PUT" : "POST",
                             .path = path,
                             .accept = ACCEPT_FULL,
                             .content_type = "application/json",
                             .body = body,
                             .deadline_ms = (int)l->duration_s * 1000 / 3};
    return call_start(l->kube, &spec, cb, arg);
}

static void lose(struct kube_lease *l)
{
    struct kube_result result = {.retry_after_ms = -1, .resource_version = ""};
    l->held = false;
    loop_cancel(TAKE(l->expiry));
    look_in(l, backoff_next(&l->backoff, random_u32()));
    (void)err_set(&result.err, ESTALE,
                  "the slot %s-%u was not renewed in time or taken by another node", l->name,
                  l->mine);
    tell(l, &result);
}

static void on_expiry(void *arg)
{
    struct kube_lease *l = arg;
    l->expiry = NULL;
    call_cancel(TAKE(l->call));
    lose(l);
}

static void on_written(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct kube_lease *l = arg;
    l->call = NULL;
    if (result->err.code == ESTALE || result->err.code == EEXIST) {
        look_in(l, l->held ? 0 : backoff_next(&l->backoff, random_u32()));
        return;
    }
    if (result->err.code) {
        failed(l, result);
        return;
    }
    bool first = !l->held;
    l->held = true;
    l->backoff.failures = 0;
    if (object && *result->resource_version) {
        struct lease_item item;
        (void)lease_item_decode(object, &item); /* its name is the one that was written to */
        item.version = result->resource_version;
        take_slot(l, &l->slots[l->mine], &item);
    }
    loop_cancel(l->timer);
    l->timer = loop_add_timer(l->kube->loop, (int64_t)l->duration_s * 1000 / 3, on_timer, l);
    loop_cancel(l->expiry);
    l->expiry = loop_add_timer(l->kube->loop, (int64_t)l->duration_s * 1000, on_expiry, l);
    if (first)
        tell(l, result);
}

static void take(struct kube_lease *l, unsigned slot)
{
    l->mine = slot;
    l->call = write_slot(l, l->kube->node_name, on_written, l);
}

static void on_list(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct kube_lease *l = arg;
    struct kube_result mine = *result;
    l->call = NULL;
    if (!mine.err.code)
        (void)take_list(l, object, &mine.err);
    if (mine.err.code) {
        failed(l, &mine);
        return;
    }
    if (l->held) {
        struct slot *s = &l->slots[l->mine];
        if (s->version && strcmp(s->holder, l->kube->node_name) == 0)
            take(l, l->mine);
        else
            lose(l);
        return;
    }
    int slot = choose(l);
    if (slot >= 0)
        take(l, (unsigned)slot);
    else
        look_in(l, backoff_next(&l->backoff, random_u32()));
}

static void look(struct kube_lease *l)
{
    if (l->call)
        return;
    AUTO_FREE char *path = xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases"
                                     "?labelSelector=ccnode.io%%2Fsemaphore%%3D%s",
                                     l->kube->namespace_, l->name);
    struct call_spec spec = {.verb = "list",
                             .resource = "leases.coordination.k8s.io",
                             .method = "GET",
                             .path = path,
                             .accept = ACCEPT_FULL,
                             .once = true};
    l->call = call_start(l->kube, &spec, on_list, l);
}

/* --- public --- */

struct kube_lease *kube_lease_acquire(struct kube *kube, const char *name, unsigned max,
                                      unsigned duration_s, kube_cb *cb, void *arg)
{
    struct kube_lease *l = xcalloc(1, sizeof *l);
    *l = (struct kube_lease){.kube = kube,
                             .next = kube->leases,
                             .name = xstrdup(name),
                             .max = max < 1           ? 1
                                    : max > SLOTS_MAX ? SLOTS_MAX
                                                      : max,
                             .duration_s = duration_s ? duration_s : DURATION_S,
                             .backoff = {.min_ms = kube->backoff_min_ms, .max_ms = WAIT_MAX_MS},
                             .cb = cb,
                             .arg = arg};
    if (l->backoff.max_ms > kube->backoff_max_ms)
        l->backoff.max_ms = kube->backoff_max_ms;
    l->slots = xcalloc(l->max, sizeof *l->slots);
    kube->leases = l;
    look(l);
    return l;
}

bool kube_lease_is_held(const struct kube_lease *lease)
{
    return lease->held;
}

static void free_lease(struct kube_lease *l)
{
    for (struct kube_lease **p = &l->kube->leases; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    call_cancel(l->call);
    loop_cancel(l->timer);
    loop_cancel(l->expiry);
    for (unsigned i = 0; i < l->max; i++)
        free(l->slots[i].version);
    free(l->slots);
    free(l->name);
    free(l);
}

void kube_lease_release(struct kube_lease *l)
{
    if (!l)
        return;
    /* a renewal under way may or may not arrive: then this one gets 409 and the slot runs out by itself */
    if (l->held)
        (void)write_slot(l, "", NULL, NULL);
    free_lease(l);
}

void lease_free_all(struct kube *kube)
{
    while (kube->leases)
        free_lease(kube->leases);
}
