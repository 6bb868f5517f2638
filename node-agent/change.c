/* Starts the chains that may start, and digests what they report. */
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/agent.h"

/* A look at the users that ended longer ago does not count before a change; how long it took does not matter, since the
 * devices are withdrawn before it begins. */
#define FRESH_MS 300
#define SETTLE_MS 20 /* devices that end within that time are published together */
#define SOFT_RETRY_MS                                                                              \
    300 /* somebody else has it at this moment: another worker, a user who was quick */
#define SOFT_TRIES                                                                                 \
    4 /* each twice as late as the last: 4.5 s, longer than most steps of a worker left behind */
#define JOURNAL_RETRY_MS 5000
#define SAME_AGAIN_MS 5000 /* the same change again so soon after it succeeded: it did not help */

struct change {
    struct change *next;
    struct agent *agent;
    struct act *act;
    bool writes;
    struct plan plan;
    size_t n;
    char bdfs[NV_MAX_DEVICES]
             [BDF_SIZE]; /* by index of the plan: observation may move on meanwhile */
    enum cc_mode wanted[NV_MAX_DEVICES];
    enum binding binding[NV_MAX_DEVICES];
};

static bool writes(const struct device_plan *d)
{
    return d->n_steps > 0 && d->decision == DECISION_CHANGE;
}

static bool has_step(const struct device_plan *d, enum worker_step step)
{
    for (size_t i = 0; i < d->n_steps; i++) {
        if (d->steps[i].step == step)
            return true;
    }
    return false;
}

bool change_any_writing(const struct agent *agent)
{
    for (const struct change *c = agent->changes; c; c = c->next) {
        if (c->writes)
            return true;
    }
    return false;
}

bool change_any_wanted(const struct agent *agent)
{
    return agent->plan->changes;
}

/* ---- journal ---- */

int agent_save_journal(struct agent *agent)
{
    struct err err = ERR_INIT;
    agent->journal_dirty = false;
    int r = journal_save(&agent->host, agent->config.state_directory, &agent->journal, &err);
    if (r < 0 && strcmp(agent->journal_error, err.msg) != 0)
        log_error("the journal cannot be written; nothing is changed until it can", "error",
                  err.msg, NULL);
    (void)snprintf(agent->journal_error, sizeof agent->journal_error, "%s", r < 0 ? err.msg : "");
    return r;
}

static struct journal_device *journal_entry(struct agent *agent, const struct nv_device *dev)
{
    struct journal_device *entry = journal_put(&agent->journal, dev->bdf);
    if (entry->device_id != dev->device_id) {
        *entry = (struct journal_device){.device_id = dev->device_id};
        (void)snprintf(entry->bdf, sizeof entry->bdf, "%s", dev->bdf);
    }
    if (!dev->driver_is_vfio && *dev->driver)
        (void)snprintf(entry->original_driver, sizeof entry->original_driver, "%s", dev->driver);
    return entry;
}

static const struct nv_device *find_device(const struct agent *agent, const char *bdf)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        if (strcmp(agent->observed->devices[i].dev.bdf, bdf) == 0)
            return &agent->observed->devices[i].dev;
    }
    return NULL;
}

/* Before the first write: what is under way, so that a successor vouches for nothing it did not verify. */
static int write_ahead(struct agent *agent, const struct change *change)
{
    for (size_t i = 0; i < change->n; i++) {
        const struct nv_device *dev = find_device(agent, change->bdfs[i]);
        if (!dev || !writes(&change->plan.devices[i]))
            continue;
        struct journal_device *entry = journal_entry(agent, dev);
        if (has_step(&change->plan.devices[i], WORKER_STAGE)) {
            entry->changing_to = change->wanted[i];
            entry->settled = false;
        }
    }
    return agent_save_journal(agent);
}

static void journal_result(struct agent *agent, const char *bdf, enum cc_mode wanted,
                           const struct nv_report *report, bool settled)
{
    const struct nv_device *dev = find_device(agent, bdf);
    if (!dev)
        return;
    const struct journal_device *old = journal_find(&agent->journal, bdf);
    bool same = old && old->device_id == dev->device_id && old->verified_mode == report->active;
    /* what was ordered once stays so while it is told to become something else */
    bool unordered = report->active != wanted && !(same && !old->unordered);
    if (same && old->settled == settled && old->changing_to == CC_MODE_UNKNOWN &&
        old->unordered == unordered && old->capable_known != report->unlisted &&
        old->capable_modes == report->capable_modes)
        return;
    struct journal_device *entry = journal_entry(agent, dev);
    entry->verified_mode = report->active;
    entry->unordered = unordered;
    entry->capable_known = !report->unlisted;
    entry->capable_modes = report->capable_modes;
    entry->settled = settled;
    entry->changing_to = CC_MODE_UNKNOWN;
    agent->journal_dirty = true; /* written by the next pass, once for all devices */
}

/* ---- what a device reported ---- */

static void note_drift_of_mode(struct agent *agent, const char *bdf, enum cc_mode now)
{
    const struct nv_device *dev = find_device(agent, bdf);
    if (!dev)
        return;
    enum cc_mode was = journal_verified_mode(&agent->journal, dev, agent->observed->boot_id);
    if (was == CC_MODE_UNKNOWN || was == now || now == CC_MODE_UNKNOWN)
        return;
    metric_inc(agent->metrics.drift_detected, 1, NULL);
    log_warning("somebody else changed a device", "bdf", bdf, "mode", cc_mode_name(now), "was",
                cc_mode_name(was), NULL);
    tell_event(agent, "Warning", "DriftDetected", "Observe",
               "%s is in mode %s, it was verified in %s; it is put right as soon as the device is "
               "idle",
               bdf, cc_mode_name(now), cc_mode_name(was));
}

/* The registers could be read, and what they say is that the device does not work: asked again with backoff. */
static void on_fault(struct agent *agent, const char *bdf, const struct nv_report *report)
{
    struct memory_device *m = memory_find(&agent->memory, bdf);
    char text[300];
    (void)snprintf(text, sizeof text, "the device is faulty: %s",
                   *report->fault ? report->fault : "its firmware has not booted");
    if (!m || m->failures == 0)
        log_error("device failed", "bdf", bdf, "error", text, NULL);
    tell_failure(agent, bdf, worker_step_name(WORKER_QUERY), "fault");
    memory_failed(&agent->memory, bdf, text, loop_now_ms(agent->loop));
    if (m)
        m->dead = true;
}

static void on_success(struct agent *agent, const struct change *change, size_t i,
                       const struct act_device *result)
{
    const char *bdf = change->bdfs[i];
    const struct device_plan *d = &change->plan.devices[i];
    struct memory_device *m = memory_find(&agent->memory, bdf);
    if (result->report_valid && (*result->report.fault || !result->report.booted)) {
        on_fault(agent, bdf, &result->report);
        return;
    }
    if (result
            ->report_valid) { /* being readable is not being as wanted: failures are forgotten when it is in place */
        note_drift_of_mode(agent, bdf, result->report.active);
        memory_read(&agent->memory, bdf, &result->report, loop_now_ms(agent->loop));
        bool settled = result->report.active == result->report.pending ||
                       result->report.pending == CC_MODE_UNKNOWN;
        journal_result(agent, bdf, change->wanted[i], &result->report, settled);
        return;
    }
    memory_succeeded(&agent->memory, bdf);
    bool checked = has_step(d, WORKER_CHECK_VFIO);
    /* bound anew it is another device for VFIO: what was wedged would have held up the unbind */
    if (m && (checked || (has_step(d, WORKER_UNBIND) && has_step(d, WORKER_BIND))))
        m->released = false;
    if (!m || !has_step(d, WORKER_STAGE))
        return;
    struct nv_report report = m->report;
    report.pending = change->wanted[i]; /* check-staged read it back */
    if (result->verified != CC_MODE_UNKNOWN) {
        report.active = result->verified;
        report.booted = true;
    }
    memory_read(&agent->memory, bdf, &report, loop_now_ms(agent->loop));
    journal_result(agent, bdf, change->wanted[i], &report, report.active == report.pending);
    log_info("device is in its mode", "bdf", bdf, "mode", cc_mode_name(report.active), NULL);
}

/* EBUSY: somebody else has it at this moment, and that is no failure of the device as long as it passes. */
static bool is_passing(struct agent *agent, struct memory_device *m,
                       const struct act_device *result)
{
    if (strcmp(result->failed_code, "EBUSY") != 0 || m->busy_tries == SOFT_TRIES)
        return false;
    int64_t delay_ms = (int64_t)SOFT_RETRY_MS << m->busy_tries++;
    m->report_valid = false;
    m->retry_at_ms = loop_now_ms(agent->loop) + delay_ms;
    log_info("device is in use; looked at again", "bdf", m->bdf, "why", result->error, NULL);
    agent_kick(agent, LOOK_USERS, delay_ms);
    return true;
}

static void on_failure(struct agent *agent, const char *bdf, const struct act_device *result)
{
    int64_t now = loop_now_ms(agent->loop);
    struct memory_device *m = memory_find(&agent->memory, bdf);
    if (m && is_passing(agent, m, result))
        return;
    tell_failure(agent, bdf, worker_step_name(result->failed_step), result->failed_code);
    memory_failed(&agent->memory, bdf, result->error, now);
    if (m) {
        m->dead =
            strcmp(result->failed_code, "ENODEV") == 0 || strcmp(result->failed_code, "EIO") == 0;
        m->locked = result->locked;
    }
    log_error("device failed", "bdf", bdf, "error", result->error, NULL);
}

static void on_device(void *arg, size_t i, const struct act_device *result)
{
    struct change *change = arg;
    struct agent *agent = change->agent;
    const char *bdf = change->bdfs[i];
    struct track *track = agent_track(agent, bdf);
    if (track) {
        if (track->acting) {
            track->ended_seq = agent->seq;
            track->was_bound = false; /* what it is bound to now is our doing */
        }
        track->acting = track->querying = false;
        track->step = WORKER_STEP_MAX;
    }
    switch (result->result) {
    case ACT_DONE:
        if (track && writes(&change->plan.devices[i])) {
            track->done_ms = loop_now_ms(agent->loop);
            track->done_mode = change->wanted[i];
            track->done_binding = change->binding[i];
        }
        on_success(agent, change, i, result);
        break;
    case ACT_FAILED:
        on_failure(agent, bdf, result);
        break;
    case ACT_UNDONE: {
        struct memory_device *m = memory_find(&agent->memory, bdf);
        if (m)
            m->report_valid = false;
        break;
    }
    case ACT_STOPPED:
    case ACT_NOTHING:
        break;
    }
    agent_kick(agent, LOOK_SYSFS, SETTLE_MS);
}

static void note_check(struct agent *agent, const char *bdf, const struct worker_answer *answer)
{
    char why[200] = "";
    worker_answer_text(answer, "why", why, sizeof why);
    if (!*why) {
        log_info("device was released and can be opened", "bdf", bdf, NULL);
        return;
    }
    agent->may_not_open = true;
    log_info("released devices are not checked: VFIO nodes may not be opened from here", "error",
             why, NULL);
}

static void on_step(void *arg, size_t i, const struct plan_step *step,
                    const struct worker_answer *answer)
{
    struct change *change = arg;
    const char *bdf = i < change->n ? change->bdfs[i] : "node";
    struct track *track = agent_track(change->agent, bdf);
    if (track)
        track->step = answer ? WORKER_STEP_MAX : step->step;
    tell_step(change->agent, bdf, step, answer);
    if (answer && answer->ok && step->step == WORKER_CHECK_VFIO)
        note_check(change->agent, bdf, answer);
}

static void on_done(void *arg, const struct act_device *results, size_t n)
{
    struct change *change = arg;
    struct agent *agent = change->agent;
    (void)results;
    (void)n;
    for (struct change **p = &agent->changes; *p; p = &(*p)->next) {
        if (*p == change) {
            *p = change->next;
            break;
        }
    }
    free(change);
    agent_kick(agent, LOOK_SYSFS, 0);
    agent_settle(agent);
    if (agent->stopping)
        change_end_if_idle(agent);
}

/* ---- starting ---- */

static void start(struct agent *agent, struct change *change)
{
    struct act_callbacks callbacks = {
        .on_step = on_step, .on_device = on_device, .on_done = on_done, .arg = change};
    int64_t now = loop_now_ms(agent->loop);
    for (size_t i = 0; i < change->n; i++) {
        const struct device_plan *d = &change->plan.devices[i];
        struct track *track = agent_track(agent, change->bdfs[i]);
        if (d->n_steps == 0 || !track)
            continue;
        track->querying = !writes(d);
        track->acting = writes(d);
        track->retrying = agent->observed->devices[i].failures > 0;
        track->acting_since_ms = now;
        change->writes = change->writes || writes(d);
    }
    change->next = agent->changes;
    agent->changes = change;
    change->act =
        act_start(agent->workers, agent->loop, &change->plan, agent->observed, &callbacks);
}

static struct change *new_change(struct agent *agent)
{
    struct change *change = xcalloc(1, sizeof *change);
    change->agent = agent;
    change->plan = *agent->plan;
    change->n = agent->observed->n;
    for (size_t i = 0; i < change->n; i++) {
        memcpy(change->bdfs[i], agent->observed->devices[i].dev.bdf, BDF_SIZE);
        change->wanted[i] = agent->intent->devices[i].mode;
        change->binding[i] = agent->intent->devices[i].binding;
        change->plan.devices[i].n_steps = 0;
    }
    return change;
}

/* A check resets the device, so nobody may be given it meanwhile: as for a change, it was withdrawn before the look that
 * found it idle. It changes nothing that the Node says of it, so neither label nor Lease is waited for. */
static bool may_check(struct agent *agent, const struct track *track)
{
    bool fresh = loop_now_ms(agent->loop) - agent->users_looked_ms < FRESH_MS;
    if (agent->options.explain || agent_is_blind(agent) || agent->node_gone)
        return false;
    if (track->withdrawn && fresh)
        return true;
    if (!agent->look) /* else that one decides as it ends */
        agent_kick(agent, LOOK_USERS, 0);
    return false;
}

static void start_queries(struct agent *agent)
{
    struct change *change = new_change(agent);
    bool any = false;
    change->plan.together = false;
    change->plan.load_vfio = false;
    for (size_t i = 0; i < change->n; i++) {
        const struct device_plan *d = &agent->plan->devices[i];
        const struct track *track = agent_track(agent, change->bdfs[i]);
        if (d->n_steps == 0 || writes(d) || !track || track->querying || track->acting ||
            (d->decision == DECISION_CHECK && !may_check(agent, track)))
            continue;
        change->plan.devices[i] = *d;
        any = true;
    }
    if (any)
        start(agent, change);
    else
        free(change);
}

void change_evict(struct agent *agent)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct track *track = agent_track(agent, agent->observed->devices[i].dev.bdf);
        if (track && agent->plan->devices[i].decision != DECISION_BUSY)
            track->evicted = false;
    }
    if (!agent->plan->evict || !agent->kube || agent->node_gone || *agent->journal_error ||
        !turn_take(agent))
        return; /* without the change nobody has to go */
    (void)evict_run(agent->evict, agent->plan, agent->observed, agent->config.evict_timeout_ms);
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct track *track = agent_track(agent, agent->observed->devices[i].dev.bdf);
        if (track && agent->plan->devices[i].evict)
            track->evicted = true;
    }
}

/* Every step succeeded and still the device is not as wanted: without this the same would be done again for ever. */
static bool was_in_vain(struct agent *agent, size_t i)
{
    const struct observed_device *seen = &agent->observed->devices[i];
    struct track *track = agent_track(agent, seen->dev.bdf);
    const struct device_intent *wish = &agent->intent->devices[i];
    int64_t now = loop_now_ms(agent->loop);
    if (!track || track->done_ms == 0 || now - track->done_ms > SAME_AGAIN_MS ||
        track->done_mode != wish->mode || track->done_binding != wish->binding)
        return false;
    track->done_ms = 0;
    char text[300];
    (void)snprintf(
        text, sizeof text,
        "every step succeeded, but now it is in mode %s and bound to %s; look for another "
        "tool that changes it",
        cc_mode_name(seen->report.active), *seen->dev.driver ? seen->dev.driver : "no driver");
    log_error("device failed", "bdf", seen->dev.bdf, "error", text, NULL);
    tell_failure(agent, seen->dev.bdf, worker_step_name(WORKER_VERIFY), "vain");
    memory_failed(&agent->memory, seen->dev.bdf, text, now);
    agent_kick(agent, LOOK_SYSFS, 0);
    return true;
}

/* Takes the chains that may start now. A device may be written to when the look that found it idle began after it had been
 * withdrawn; one whose registers are being read follows when that has ended. */
static size_t take_writes(struct agent *agent, struct change *change, bool *ret_missing)
{
    size_t n = 0;
    *ret_missing = false;
    for (size_t i = 0; i < change->n; i++) {
        const struct device_plan *d = &agent->plan->devices[i];
        const struct track *track = agent_track(agent, change->bdfs[i]);
        if (!writes(d) || !track || was_in_vain(agent, i))
            continue;
        if (track->withdrawn && !track->querying && !track->acting) {
            change->plan.devices[i] = *d;
            n++;
            continue;
        }
        *ret_missing = true;
        if (!track->withdrawn && !(agent->look && track->withdrawn_look))
            agent_kick(agent, LOOK_USERS, 0);
    }
    return n;
}

/* A device that failed before has been withdrawn since: what the Node says of the others stays true meanwhile. */
static bool any_first_try(const struct agent *agent)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        if (writes(&agent->plan->devices[i]) && agent->observed->devices[i].failures == 0)
            return true;
    }
    return false;
}

static void start_writes(struct agent *agent)
{
    if (!agent->plan->changes || agent_is_blind(agent) || agent->node_gone)
        return;
    bool fresh = loop_now_ms(agent->loop) - agent->users_looked_ms < FRESH_MS;
    bool allowed = turn_take(agent); /* first: until then the Node may say that it is ready */
    agent->label_blocks = allowed && agent->publisher &&
                          publisher_may_say_ready(agent->publisher) && any_first_try(agent);
    if (!allowed || agent->label_blocks)
        return; /* whoever brings the answer asks for another look */
    if (!fresh) {
        if (!agent->look) /* else that one decides as it ends */
            agent_kick(agent, LOOK_USERS, 0);
        return;
    }
    struct change *change = new_change(agent);
    bool missing;
    size_t n = take_writes(agent, change, &missing);
    if (n == 0 || (missing && change->plan.together)) {
        free(change);
        return;
    }
    agent->label_tells = agent->publisher && publisher_is_telling(agent->publisher);
    if (agent->label_tells) {
        free(change);
        agent_kick(agent, LOOK_SYSFS, PUBLISHER_TELL_MS); /* the answer comes earlier and decides */
        return;
    }
    if (write_ahead(agent, change) < 0) {
        free(change);
        agent_kick(agent, LOOK_USERS, JOURNAL_RETRY_MS);
        return;
    }
    start(agent, change);
}

void change_start_allowed(struct agent *agent)
{
    if (agent->stopping)
        return;
    if (agent->plan->queries || agent->plan->checks)
        start_queries(agent);
    if (!agent->options.explain) {
        recover_dead(agent);
        start_writes(agent);
    }
    turn_give_back(agent);
}

/* Nobody has it, as far as is known, and reading gets in nobody's way: through VFIO it opens the device, which resets it,
 * and a VM that starts meanwhile gets EBUSY. One that is offered is then read only after an event; where registers
 * cannot be mapped nobody else changes them either without holding the device, and that is noticed. */
static bool may_verify(const struct agent *agent, size_t i, const struct memory_device *m)
{
    const struct observed *observed = agent->observed;
    const struct observed_device *seen = &observed->devices[i];
    bool idle = observed->holders_known && observed->pods_known && seen->n_holders == 0 &&
                seen->n_pods == 0;
    bool by_vfio = m->report.by_vfio || is_locked_down(observed);
    return idle && !(by_vfio && serving_wants(agent->serving, seen->dev.bdf));
}

void change_verify_idle(struct agent *agent)
{
    int64_t now = loop_now_ms(agent->loop);
    if (agent->config.verify_interval_ms == 0 || agent->stopping || agent->users_looked_ms == 0)
        return;
    struct change *change = new_change(agent);
    bool any = false;
    change->plan.together = change->plan.load_vfio = false;
    for (size_t i = 0; i < change->n; i++) {
        const struct track *track = agent_track(agent, change->bdfs[i]);
        const struct memory_device *m = memory_find(&agent->memory, change->bdfs[i]);
        const struct device_plan *planned = &agent->plan->devices[i];
        if ((planned->decision != DECISION_IN_PLACE && !planned->serve) || !track ||
            track->querying || track->acting || !m || !m->report_valid ||
            now - m->read_at_ms < agent->config.verify_interval_ms || !may_verify(agent, i, m))
            continue;
        struct device_plan *d = &change->plan.devices[i];
        *d = (struct device_plan){.decision = DECISION_QUERY, .n_steps = 1};
        d->steps[0].step = WORKER_QUERY;
        any = true;
    }
    if (any)
        start(agent, change);
    else
        free(change);
}

/* ---- the end ---- */

void change_abandon_all(struct agent *agent)
{
    while (agent->changes) {
        struct change *change = agent->changes;
        agent->changes = change->next;
        act_abandon(change->act);
        free(change);
    }
}

void change_end_if_idle(struct agent *agent)
{
    if (!change_any_writing(agent) && !recover_is_busy(agent))
        agent_finish(agent);
}

void change_stop_all(struct agent *agent)
{
    for (struct change *c = agent->changes; c; c = c->next)
        act_stop(c->act);
    change_end_if_idle(agent);
}
