/* The node's turn to change, where concurrency.max limits how many nodes do so at a time: a Lease of the semaphore. */
#include <errno.h>

#include "base/log.h"
#include "node-agent/agent.h"

#define TURN_MS 5000        /* for so long it is kept while nothing can begin */
#define TURN_AGAIN_MS 20000 /* then others have theirs */

bool turn_is_ours(const struct agent *agent)
{
    return !agent->kube || agent->config.concurrency_max == 0 ||
           (agent->lease && kube_lease_is_held(agent->lease));
}

static void on_lease(void *arg, const struct kube_result *result)
{
    struct agent *agent = arg;
    if (result->err.code == ECANCELED)
        return;
    if (result->err.code)
        (void)snprintf(agent->lease_error, sizeof agent->lease_error,
                       "a Lease is needed before this node may change: %.400s", result->err.msg);
    else
        *agent->lease_error = '\0';
    agent_kick(agent, LOOK_SYSFS, 0); /* what is offered until then is withdrawn first */
}

bool turn_take(struct agent *agent)
{
    if (turn_is_ours(agent))
        return true;
    if (!agent->lease && loop_now_ms(agent->loop) >= agent->turn_again_ms) {
        (void)snprintf(agent->lease_error, sizeof agent->lease_error,
                       "waiting for one of %d places (concurrency.max) to change mode",
                       agent->config.concurrency_max);
        agent->lease =
            kube_lease_acquire(agent->kube, agent->config.concurrency_lease,
                               (unsigned)agent->config.concurrency_max, 0, on_lease, agent);
    }
    return turn_is_ours(agent);
}

/* Pods that were evicted leave in their own time, and the change for which they leave needs the same turn. */
static bool is_evicting(const struct agent *agent)
{
    bool any = agent->plan->evict;
    for (size_t i = 0; i < agent->n_tracks; i++)
        any = any || agent->tracks[i].evicted;
    return any;
}

static bool is_needed(const struct agent *agent)
{
    return change_any_writing(agent) || change_any_wanted(agent) || is_evicting(agent);
}

/* A node on which nothing can begin must not stop the others. */
static bool is_wasted(struct agent *agent)
{
    int64_t now = loop_now_ms(agent->loop);
    bool blocked = agent->label_blocks || *agent->journal_error;
    if (!blocked || change_any_writing(agent) || !turn_is_ours(agent))
        agent->blocked_since_ms = 0;
    else if (agent->blocked_since_ms == 0)
        agent->blocked_since_ms = now;
    if (agent->blocked_since_ms == 0)
        return false;
    int64_t left = agent->blocked_since_ms + TURN_MS - now;
    if (left > 0)
        agent_kick(agent, LOOK_SYSFS, left);
    return left <= 0;
}

void turn_give_back(struct agent *agent)
{
    bool needed = is_needed(agent);
    bool wasted = needed && agent->lease && is_wasted(agent);
    if (!needed)
        *agent->lease_error =
            '\0'; /* also of a turn that was given back before the orders changed */
    if (!agent->lease || (needed && !wasted))
        return;
    kube_lease_release(agent->lease);
    agent->lease = NULL;
    agent->blocked_since_ms = 0;
    if (!wasted)
        return;
    (void)snprintf(agent->lease_error, sizeof agent->lease_error,
                   "this node gave its turn to change (concurrency.max) to the others, since it "
                   "could not begin: %.300s",
                   agent->label_blocks ? publisher_error(agent->publisher) : agent->journal_error);
    log_warning("turn given back, nothing was changed", "why", agent->lease_error, NULL);
    agent->label_blocks = false;
    agent->turn_again_ms = loop_now_ms(agent->loop) + TURN_AGAIN_MS;
    agent_kick(agent, LOOK_SYSFS, 0); /* what was withdrawn is offered again */
}
