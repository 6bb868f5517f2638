#include "node-agent/recover.h"

#include <string.h>

#include "base/log.h"
#include "node-agent/agent.h"

#define SCAN_AGAIN_MS 60000
#define LOCKED_MS 2000 /* the worker that removes it still lives */

#define BUS_RESET "sbr"

static void finish(struct agent *agent)
{
    struct track *track = agent_track(agent, agent->recover.bdf);
    worker_close(agent->recover.worker);
    agent->recover.worker = NULL;
    if (track)
        track->acting = false;
    agent_kick(agent, LOOK_USERS, 0);
    if (agent->stopping)
        change_end_if_idle(agent);
}

static int set_removed(struct agent *agent, const char *bdf)
{
    (void)snprintf(agent->journal.removed, sizeof agent->journal.removed, "%s", bdf);
    return agent_save_journal(agent);
}

static void on_rescanned(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct plan_step step = {.step = WORKER_RESCAN};
    tell_step(agent, "node", &step, answer);
    if (answer->ok)
        (void)set_removed(agent, "");
    else
        agent->recover.scan_after_ms = loop_now_ms(agent->loop) + SCAN_AGAIN_MS;
    finish(agent);
}

static void scan(struct agent *agent)
{
    struct err err = ERR_INIT;
    agent->recover.worker = worker_open(agent->workers, "node", &err);
    if (agent->recover.worker) {
        worker_step(agent->recover.worker, WORKER_RESCAN, NULL, on_rescanned, agent);
        return;
    }
    log_warning("the PCI bus is not scanned yet", "error", err.msg, NULL);
    agent->recover.scan_after_ms = loop_now_ms(agent->loop) + SCAN_AGAIN_MS;
    finish(agent);
}

/* A remove that is late may still be carried out: then the scan has to wait for its end. */
static void on_removed(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct plan_step step = {.step = WORKER_REMOVE};
    bool late = strcmp(answer->code, "ETIMEDOUT") == 0;
    tell_step(agent, agent->recover.bdf, &step, answer);
    worker_close(agent->recover.worker);
    agent->recover.worker = NULL;
    if (answer->ok) {
        scan(agent);
        return;
    }
    if (!late)
        (void)set_removed(agent, "");
    finish(agent);
}

/* What was taken from the bus, by us or by an agent before us, is looked for again, whatever is configured now. */
static bool finish_scan(struct agent *agent)
{
    const char *bdf = agent->journal.removed;
    if (!*bdf)
        return false;
    if (agent->recover.worker || loop_now_ms(agent->loop) < agent->recover.scan_after_ms)
        return true;
    if (workers_is_locked(agent->workers, bdf, NULL)) {
        agent_kick(agent, LOOK_SYSFS, LOCKED_MS);
        return true;
    }
    log_warning("the PCI bus is scanned for a device that was taken from it", "bdf", bdf, NULL);
    memcpy(agent->recover.bdf, bdf, BDF_SIZE);
    scan(agent);
    return true;
}

static void take_off(struct agent *agent)
{
    worker_step(agent->recover.worker, WORKER_REMOVE, NULL, on_removed, agent);
}

/* A worker that is late sits in the kernel with the device: no other step is possible. */
static bool is_stuck(const struct worker_answer *answer)
{
    return !answer->ok && !answer->members;
}

static void on_checked(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct plan_step step = {.step = WORKER_CHECK_VFIO};
    tell_step(agent, agent->recover.bdf, &step, answer);
    if (answer->ok || is_stuck(answer))
        finish(agent);
    else
        take_off(agent);
}

/* Registers that answer say nothing of a released device that VFIO does not open. */
static void on_alive(struct agent *agent)
{
    const struct memory_device *m = memory_find(&agent->memory, agent->recover.bdf);
    if (m && m->released && agent->config.recovery_check_released && !agent->may_not_open)
        worker_step(agent->recover.worker, WORKER_CHECK_VFIO, NULL, on_checked, agent);
    else
        finish(agent);
}

static void on_looked_at(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct err err = ERR_INIT;
    struct nv_report report;
    struct plan_step step = {.step = WORKER_QUERY};
    tell_step(agent, agent->recover.bdf, &step, answer);
    bool alive =
        answer->ok && worker_report(answer, &report, &err) == 0 && report.booted && !*report.fault;
    if (alive)
        on_alive(agent);
    else if (is_stuck(answer))
        finish(agent);
    else
        take_off(agent);
}

static void on_reset(void *arg, const struct worker_answer *answer)
{
    struct agent *agent = arg;
    struct plan_step step = {.step = WORKER_RESET, .argument = BUS_RESET};
    tell_step(agent, agent->recover.bdf, &step, answer);
    if (is_stuck(answer))
        finish(agent);
    else if (answer->ok)
        worker_step(agent->recover.worker, WORKER_QUERY, NULL, on_looked_at, agent);
    else
        take_off(agent);
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

bool recover_was_tried(struct agent *agent, const char *bdf)
{
    return was_tried(&agent->recover, bdf, loop_now_ms(agent->loop));
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
    if (finish_scan(agent) || !agent->config.recovery_rescan || agent->recover.worker ||
        agent_is_blind(agent))
        return;
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *seen = &agent->observed->devices[i];
        if (!needs_it(agent, seen, i) || was_tried(&agent->recover, seen->dev.bdf, now))
            continue;
        remember(&agent->recover, seen->dev.bdf, now);
        if (set_removed(agent, seen->dev.bdf) < 0)
            return; /* told; nothing is changed without it */
        agent->recover.worker = worker_open(agent->workers, seen->dev.bdf, &err);
        if (!agent->recover.worker) {
            (void)set_removed(agent, "");
            continue;
        }
        memcpy(agent->recover.bdf, seen->dev.bdf, BDF_SIZE);
        agent_track(agent, seen->dev.bdf)->acting = true;
        agent_track(agent, seen->dev.bdf)->retrying = true;
        agent_track(agent, seen->dev.bdf)->acting_since_ms = now;
        log_warning(
            "dead device is reset by its bridge, else taken from the bus and looked for again",
            "bdf", seen->dev.bdf, "error", seen->error, NULL);
        tell_event(
            agent, "Warning", "RecoveringDevice", "Recover",
            "%s is reset by its bridge; if that does not help it is removed from the PCI bus "
            "and the bus is scanned again: %.600s",
            seen->dev.bdf, seen->error);
        worker_step(agent->recover.worker, WORKER_RESET, BUS_RESET, on_reset, agent);
        return;
    }
}

bool recover_is_busy(const struct agent *agent)
{
    return agent->recover.worker != NULL;
}

void recover_stop(struct agent *agent)
{
    worker_close(agent->recover.worker);
    agent->recover.worker = NULL;
}
