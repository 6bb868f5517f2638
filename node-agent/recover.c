#include "node-agent/recover.h"

#include <string.h>

#include "base/log.h"
#include "node-agent/agent.h"

static void finish(struct agent *agent)
{
    struct track *track = agent_track(agent, agent->recover.bdf);
    worker_close(agent->recover.worker);
    agent->recover.worker = NULL;
    if (track)
        track->acting = false;
    agent_kick(agent, LOOK_USERS, 0);
}

static void on_rescanned(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct plan_step step = {.step = WORKER_RESCAN};
    tell_step(agent, "node", &step, answer);
    finish(agent);
}

static void on_removed(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct err err = ERR_INIT;
    struct plan_step step = {.step = WORKER_REMOVE};
    tell_step(agent, agent->recover.bdf, &step, answer);
    worker_close(agent->recover.worker);
    agent->recover.worker = answer->ok ? worker_open(agent->workers, "node", &err) : NULL;
    if (agent->recover.worker)
        worker_step(agent->recover.worker, WORKER_RESCAN, NULL, on_rescanned, agent);
    else
        finish(agent);
}

static bool was_tried(const struct recover *recover, const char *bdf, int64_t now_ms)
{
    for (size_t i = 0; i < RECOVER_REMEMBERED; i++) {
        if (strcmp(recover->done[i].bdf, bdf) == 0 &&
            now_ms - recover->done[i].at_ms < RECOVER_AGAIN_MS)
            return true;
    }
    return false;
}

static void remember(struct recover *recover, const char *bdf, int64_t now_ms)
{
    size_t oldest = 0;
    for (size_t i = 1; i < RECOVER_REMEMBERED; i++) {
        if (recover->done[i].at_ms < recover->done[oldest].at_ms)
            oldest = i;
    }
    (void)snprintf(recover->done[oldest].bdf, BDF_SIZE, "%s", bdf);
    recover->done[oldest].at_ms = now_ms;
}

static bool needs_it(struct agent *agent, const struct observed_device *seen, size_t i)
{
    const struct memory_device *m = memory_find(&agent->memory, seen->dev.bdf);
    const struct track *track = agent_track(agent, seen->dev.bdf);
    return agent->intent->devices[i].managed && m && m->dead && m->failures >= 2 && track &&
           !track->acting && !track->querying && track->withdrawn && !seen->quarantined &&
           agent->observed->holders_known && agent->observed->pods_known && seen->n_holders == 0 &&
           seen->n_pods == 0;
}

void recover_dead(struct agent *agent)
{
    int64_t now = loop_now_ms(agent->loop);
    struct err err = ERR_INIT;
    if (!agent->config.recovery_rescan || agent->recover.worker || agent_is_blind(agent))
        return;
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *seen = &agent->observed->devices[i];
        if (!needs_it(agent, seen, i) || was_tried(&agent->recover, seen->dev.bdf, now))
            continue;
        remember(&agent->recover, seen->dev.bdf, now);
        agent->recover.worker = worker_open(agent->workers, seen->dev.bdf, &err);
        if (!agent->recover.worker)
            continue;
        memcpy(agent->recover.bdf, seen->dev.bdf, BDF_SIZE);
        agent_track(agent, seen->dev.bdf)->acting = true;
        agent_track(agent, seen->dev.bdf)->retrying = true;
        agent_track(agent, seen->dev.bdf)->acting_since_ms = now;
        log_warning("dead device is taken from the bus and looked for again", "bdf", seen->dev.bdf,
                    "error", seen->error, NULL);
        tell_event(agent, "Warning", "RecoveringDevice", "Recover",
                   "%s is removed from the PCI bus and the bus is scanned again: %.600s",
                   seen->dev.bdf, seen->error);
        worker_step(agent->recover.worker, WORKER_REMOVE, NULL, on_removed, agent);
        return;
    }
}

void recover_stop(struct agent *agent)
{
    worker_close(agent->recover.worker);
    agent->recover.worker = NULL;
}
