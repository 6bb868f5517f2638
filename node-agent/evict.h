/* Policy evict: the pods that hold devices which must change are ended through the Eviction API, once each, until a
 * deadline; PodDisruptionBudgets are obeyed (kube_evict repeats a 429 until then). What could not be evicted is told and
 * not tried again until the set of orders changes or a minute has passed.
 */
#ifndef CCN_AGENT_EVICT_H
#define CCN_AGENT_EVICT_H

#include <stdbool.h>

#include "base/loop.h"
#include "node-agent/kube/kube.h"
#include "node-agent/plan.h"

struct evict;

struct evict_options {
    struct loop *loop;
    struct kube *kube;
    /* one eviction has ended; @error "" = accepted: the pod goes in its own time */
    void (*on_done)(void *arg, const struct pod_ref *pod, const char *error);
    void *arg;
};

struct evict *evict_new(const struct evict_options *options);
void evict_free(struct evict *evict); /* after kube_free(); accepts NULL */

/* evict_run() - ask for every pod of a device that @plan wants to have evicted and that is not asked for yet. Return:
 * number of evictions begun. */
unsigned evict_run(struct evict *evict, const struct plan *plan, const struct observed *observed,
                   int deadline_ms);
/* evict_forget() - new orders: what failed may be tried again. */
void evict_forget(struct evict *evict);

#endif
