/* Policy evict: the pods that hold devices which must change are ended through the Eviction API, once each;
 * PodDisruptionBudgets are obeyed (kube_evict repeats a 429 as long as a pod may take to leave). What could not be evicted
 * is told and not tried again until the set of orders changes or a minute has passed. A pod that still has its device when
 * busy.evictTimeout is over is told as well; the change goes on waiting for it.
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
    /* the time is over and it still has a device: once per pod; @accepted: the eviction was, so the pod is ending */
    void (*on_late)(void *arg, const struct pod_ref *pod, bool accepted);
    void *arg;
};

struct evict *evict_new(const struct evict_options *options);
void evict_free(struct evict *evict); /* after kube_free(); accepts NULL */

/* evict_run() - ask for every pod of a device that @plan wants to have evicted and that is not asked for yet, and tell
 * those that take longer than @timeout_ms. Return: number of evictions begun. */
unsigned evict_run(struct evict *evict, const struct plan *plan, const struct observed *observed,
                   int timeout_ms);
/* What is said of such a pod; "%s" = "accepted", "not accepted". */
#define EVICT_LATE                                                                                 \
    "has not left within busy.evictTimeout (its eviction was %s), and the change goes on "         \
    "waiting; "                                                                                    \
    "look at its grace period, finalizers and budget with kubectl describe"
/* evict_explain() - into the reason of each device in @plan whose pod is late */
void evict_explain(const struct evict *evict, const struct observed *observed, struct plan *plan);
/* evict_forget() - new orders: what failed may be tried again. */
void evict_forget(struct evict *evict);

#endif
