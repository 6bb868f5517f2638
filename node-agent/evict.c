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
    int64_t ended_ms;
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
    evict->options.on_done(evict->options.arg, &request->pod,
                           result->err.code ? result->err.msg : "");
}

static bool is_asked(struct evict *evict, const struct pod_ref *pod)
{
    int64_t now = loop_now_ms(evict->options.loop);
    for (size_t i = 0; i < evict->n; i++) {
        const struct request *r = evict->requests[i];
        if (strcmp(r->pod.name, pod->name) != 0 || strcmp(r->pod.namespace, pod->namespace) != 0)
            continue;
        if (r->running || now - r->ended_ms < EVICT_AGAIN_MS)
            return true;
        drop(evict, i);
        return false;
    }
    return false;
}

unsigned evict_run(struct evict *evict, const struct plan *plan, const struct observed *observed,
                   int deadline_ms)
{
    unsigned begun = 0;
    for (size_t i = 0; i < plan->n; i++) {
        for (size_t p = 0; plan->devices[i].evict && p < observed->devices[i].n_pods; p++) {
            const struct pod_ref *pod = &observed->devices[i].pods[p];
            if (is_asked(evict, pod) || evict->n == EVICT_MAX)
                continue;
            struct request *request = xcalloc(1, sizeof *request);
            *request = (struct request){.evict = evict, .pod = *pod, .running = true};
            evict->requests[evict->n++] = request;
            kube_evict(evict->options.kube, pod->namespace, pod->name, deadline_ms, on_evicted,
                       request);
            begun++;
        }
    }
    return begun;
}
