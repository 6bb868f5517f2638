#include "node-agent/evict.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

#define EVICT_MAX 64               /* pods at a time: one per device */
#define EVICT_AGAIN_MS (60 * 1000) /* a pod that is still there, or could not be evicted */

struct request {
    struct evict *evict;
    struct pod_ref pod;
    bool running;
    bool accepted; /* the last answer */
    bool late;     /* it had its time, and that was told */
    int64_t first_ms, ended_ms;
};

struct evict {
    struct evict_options options;
    size_t n;
    struct request *requests[EVICT_MAX];
};

struct evict *evict_new(const struct evict_options *options)
{
    struct evict *evict = xcalloc(1, sizeof *evict);
    evict->options = *options;
    return evict;
}

static void drop(struct evict *evict, size_t i)
{
    free(evict->requests[i]);
    evict->requests[i] = evict->requests[--evict->n];
}

void evict_free(struct evict *evict)
{
    if (!evict)
        return;
    while (evict->n > 0)
        drop(evict, evict->n - 1);
    free(evict);
}

void evict_forget(struct evict *evict)
{
    for (size_t i = evict->n; i-- > 0;) {
        if (!evict->requests[i]->running)
            drop(evict, i);
    }
}

static void on_evicted(void *arg, const struct kube_result *result)
{
    struct request *request = arg;
    struct evict *evict = request->evict;
    if (result->err.code == ECANCELED)
        return;
    request->running = false;
    request->ended_ms = loop_now_ms(evict->options.loop);
    request->accepted = result->err.code == 0;
    evict->options.on_done(evict->options.arg, &request->pod,
                           result->err.code ? result->err.msg : "");
}

static bool is_pod(const struct pod_ref *a, const struct pod_ref *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->namespace, b->namespace) == 0;
}

static struct request *find(const struct evict *evict, const struct pod_ref *pod)
{
    for (size_t i = 0; i < evict->n; i++) {
        if (is_pod(&evict->requests[i]->pod, pod))
            return evict->requests[i];
    }
    return NULL;
}

static bool holds(const struct observed *observed, const struct pod_ref *pod)
{
    for (size_t i = 0; i < observed->n; i++) {
        for (size_t p = 0; p < observed->devices[i].n_pods; p++) {
            if (is_pod(&observed->devices[i].pods[p], pod))
                return true;
        }
    }
    return false;
}

/* A pod that has left is forgotten: another one may come under its name. */
static void forget_gone(struct evict *evict, const struct observed *observed)
{
    for (size_t i = evict->n; i-- > 0;) {
        if (!evict->requests[i]->running && !holds(observed, &evict->requests[i]->pod))
            drop(evict, i);
    }
}

static void tell_late(struct evict *evict, int timeout_ms)
{
    int64_t now = loop_now_ms(evict->options.loop);
    for (size_t i = 0; i < evict->n; i++) {
        struct request *r = evict->requests[i];
        if (r->late || now - r->first_ms < timeout_ms)
            continue;
        r->late = true;
        evict->options.on_late(evict->options.arg, &r->pod, r->accepted);
    }
}

/* Return: whether the pod was asked just now. */
static bool ask(struct evict *evict, const struct pod_ref *pod, int timeout_ms)
{
    int64_t now = loop_now_ms(evict->options.loop);
    struct request *r = find(evict, pod);
    if (r && (r->running || now - r->ended_ms < EVICT_AGAIN_MS))
        return false;
    if (!r && evict->n == EVICT_MAX)
        return false;
    if (!r) {
        r = evict->requests[evict->n++] = xcalloc(1, sizeof *r);
        *r = (struct request){.evict = evict, .pod = *pod, .first_ms = now};
    }
    r->running = true;
    kube_evict(evict->options.kube, pod->namespace, pod->name, timeout_ms, on_evicted, r);
    return true;
}

unsigned evict_run(struct evict *evict, const struct plan *plan, const struct observed *observed,
                   int timeout_ms)
{
    unsigned begun = 0;
    forget_gone(evict, observed);
    tell_late(evict, timeout_ms);
    for (size_t i = 0; i < plan->n; i++) {
        for (size_t p = 0; plan->devices[i].evict && p < observed->devices[i].n_pods; p++)
            begun += ask(evict, &observed->devices[i].pods[p], timeout_ms);
    }
    return begun;
}

void evict_explain(const struct evict *evict, const struct observed *observed, struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        struct device_plan *d = &plan->devices[i];
        for (size_t p = 0; d->evict && p < observed->devices[i].n_pods; p++) {
            const struct request *r = find(evict, &observed->devices[i].pods[p]);
            size_t len = strlen(d->reason);
            if (r && r->late)
                (void)snprintf(d->reason + len, sizeof d->reason - len,
                               "; %.60s/%.120s " EVICT_LATE, r->pod.namespace, r->pod.name,
                               r->accepted ? "accepted" : "not accepted");
        }
    }
}
