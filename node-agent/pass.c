/* Look, decide, offer, publish: what agent.h draws. */
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/agent.h"
#include "node-agent/host_advice.h"
#include "node-agent/naming.h"

#define FIRST_BUSY_POLL_MS 500 /* someone is waited for, and has just been found */
#define HELD_POLL_MS 5000  /* devices are in use and nobody waits: their release is noticed then */
#define IDLE_POLL_MS 60000 /* who uses what, when nothing is known to be used */
#define LOOK_FAILED_MS 5000
#define LOCKED_POLL_MS 2000 /* is the worker gone that keeps a device? A look at one file */
#define KUBELET_PATIENCE_MS                                                                        \
    2000 /* registration takes milliseconds, a restart of kubelet a second */

struct track *agent_track(struct agent *agent, const char *bdf)
{
    for (size_t i = 0; i < agent->n_tracks; i++) {
        if (strcmp(agent->tracks[i].bdf, bdf) == 0)
            return &agent->tracks[i];
    }
    return NULL;
}

bool agent_is_blind(const struct agent *agent)
{
    return agent->kube && (!agent->last_node.known || *node_check_foreign(agent->node_check));
}

/* ---- asking for a look ---- */

static void look_quickly(struct agent *agent);
static void make_plan(struct agent *agent);
static void find_trouble(struct agent *agent);
static void judge_surroundings(struct agent *agent);
static void publish(struct agent *agent);
static void look_at_users(struct agent *agent);

static void on_pass(void *arg)
{
    struct agent *agent = arg;
    agent->pass_timer = NULL;
    if (agent->stopping)
        return;
    if (agent->users_wanted && !agent->look && agent->observed_seq > 0)
        look_at_users(agent);
    else
        look_quickly(agent);
}

void agent_kick(struct agent *agent, enum look_for look_for, int64_t delay_ms)
{
    if (look_for == LOOK_USERS)
        agent->users_wanted = true; /* while one is under way: the next follows when it has ended */
    int64_t due = loop_now_ms(agent->loop) + delay_ms;
    if (agent->pass_timer && agent->kicked_for_ms <= due)
        return;
    loop_cancel(agent->pass_timer);
    agent->kicked_for_ms = due;
    agent->pass_timer = loop_add_timer(agent->loop, delay_ms, on_pass, agent);
}

/* ---- after a look ---- */

static void drop_absent_tracks(struct agent *agent, const struct observed *now)
{
    size_t kept = 0;
    for (size_t i = 0; i < agent->n_tracks; i++) {
        struct track *track = &agent->tracks[i];
        bool there = false;
        for (size_t d = 0; d < now->n && !there; d++)
            there = strcmp(now->devices[d].dev.bdf, track->bdf) == 0;
        if (!there && !track->acting) {
            log_info("device is gone", "bdf", track->bdf, NULL);
            continue;
        }
        if (&agent->tracks[kept] != track)
            agent->tracks[kept] = *track;
        kept++;
    }
    agent->n_tracks = kept;
}

static void note_drift(struct agent *agent, const struct observed_device *d, const char *what)
{
    metric_inc(agent->metrics.drift_detected, 1, NULL);
    log_warning("somebody else changed a device", "bdf", d->dev.bdf, "change", what, NULL);
    tell_event(agent, "Warning", "DriftDetected", "Observe",
               "%s: %s; it is put right as soon as the device is idle", d->dev.bdf, what);
}

static void note_device(struct agent *agent, const struct observed_device *d)
{
    struct track *track = agent_track(agent, d->dev.bdf);
    if (!track && agent->n_tracks < NV_MAX_DEVICES) {
        track = &agent->tracks[agent->n_tracks++];
        *track = (struct track){.step = WORKER_STEP_MAX};
        (void)snprintf(track->bdf, sizeof track->bdf, "%s", d->dev.bdf);
        struct memory_device *m = memory_find(&agent->memory, d->dev.bdf);
        if (m)
            m->released = m->released || recover_was_tried(agent, d->dev.bdf);
        log_info("device found", "bdf", d->dev.bdf, "name", d->dev.name, "driver", d->dev.driver,
                 NULL);
    }
    if (!track)
        return;
    if (track->was_bound && !d->dev.driver_is_vfio && !track->acting) {
        char what[100];
        (void)snprintf(what, sizeof what, "it is no longer bound to VFIO but to %s",
                       *d->dev.driver ? d->dev.driver : "no driver");
        note_drift(agent, d, what);
    }
    track->was_bound = d->dev.driver_is_vfio && !track->acting;
}

/* What was seen last may not be true any more: that is said, and nothing is decided from it. */
static void tell_unseen(struct agent *agent)
{
    (void)snprintf(agent->observed->stale, sizeof agent->observed->stale,
                   "the host cannot be looked at: %.400s", agent->look_error);
    if (agent->options.explain)
        return;
    make_plan(agent);
    if (agent_is_blind(agent))
        return;
    find_trouble(agent);
    judge_surroundings(agent);
    publish(agent);
}

static void on_unseen(struct agent *agent, const struct err *err)
{
    int64_t now = loop_now_ms(agent->loop);
    if (strcmp(agent->look_error, err->msg) != 0)
        log_error("the host cannot be looked at", "error", err->msg, NULL);
    (void)snprintf(agent->look_error, sizeof agent->look_error, "%s", err->msg);
    agent_kick(agent, LOOK_USERS, LOOK_FAILED_MS);
    if (agent->unseen_since_ms == 0)
        agent->unseen_since_ms = now;
    else if (now - agent->unseen_since_ms >= LOOK_FAILED_MS)
        tell_unseen(agent);
}

static void on_seen(struct agent *agent, int r, const struct observed *observed,
                    const struct err *err)
{
    if (r < 0) {
        on_unseen(agent, err);
        return;
    }
    if (*agent->observed->stale)
        log_info("the host can be looked at again", NULL);
    *agent->look_error = '\0';
    agent->unseen_since_ms = 0;
    if (agent->observed != observed)
        *agent->observed = *observed;
    hotplug_look_saw(agent->hotplug, agent->observed);
    agent->observed_seq = ++agent->seq;
    journal_begin_boot(&agent->journal, agent->observed->boot_id);
    drop_absent_tracks(agent, agent->observed);
    for (size_t i = 0; i < agent->observed->n; i++)
        note_device(agent, &agent->observed->devices[i]);
    agent_decide(agent);
}

static void look_quickly(struct agent *agent)
{
    struct err err = ERR_INIT;
    struct observed *now = xcalloc(1, sizeof *now);
    hotplug_look_begins(agent->hotplug);
    int r = observe_now(agent->workers, &agent->host, &agent->memory, &agent->journal,
                        agent->observed_seq > 0 ? agent->observed : NULL, now, &err);
    on_seen(agent, r, now, &err);
    free(now);
    if (r == 0 && agent->users_looked_ms == 0) /* what failed is tried again in LOOK_FAILED_MS */
        agent_kick(agent, LOOK_USERS, 0);
}

static void on_users(void *arg, int r, const struct observed *observed, const struct err *err)
{
    struct agent *agent = arg;
    agent->look = NULL;
    if (r == 0) {
        agent->users_looked_ms = loop_now_ms(agent->loop);
        for (size_t i = 0; i < agent->n_tracks; i++)
            agent->tracks[i].withdrawn = agent->tracks[i].withdrawn_look;
    }
    on_seen(agent, r, observed, err);
    if (r == 0 && agent->users_wanted)
        agent_kick(agent, LOOK_USERS, 0);
}

static void look_at_users(struct agent *agent)
{
    struct observe_request request = {.rpc = agent->rpc,
                                      .pod_resources_socket = agent->config.pod_resources_socket};
    for (size_t i = 0; i < agent->n_tracks; i++)
        agent->tracks[i].withdrawn_look = !serving_wants(agent->serving, agent->tracks[i].bdf);
    agent->users_wanted = false;
    hotplug_look_begins(agent->hotplug);
    agent->look = observe_start(agent->workers, &agent->host, agent->loop, &request, &agent->memory,
                                &agent->journal, on_users, agent);
}

/* ---- deciding ---- */

static void make_plan(struct agent *agent)
{
    struct key_value labels[LAST_NODE_MAX_PAIRS], annotations[LAST_NODE_MAX_PAIRS];
    const struct last_node *last = &agent->last_node;
    for (size_t i = 0; i < last->n_labels; i++)
        labels[i] = (struct key_value){last->labels[i].key, last->labels[i].value};
    for (size_t i = 0; i < last->n_annotations; i++)
        annotations[i] = (struct key_value){last->annotations[i].key, last->annotations[i].value};
    struct node_wish wish = {
        .known = last->known,
        .n_labels = last->n_labels,
        .n_annotations = last->n_annotations,
        .labels = labels,
        .annotations = annotations,
    };
    if (agent->operands) {
        wish.operands = operands_get(agent->operands);
        wish.cluster_policy = last->policy_known ? last->policy : NULL;
    }
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct observed_device *d = &agent->observed->devices[i];
        const struct track *track = agent_track(agent, d->dev.bdf);
        d->acting = track && (track->acting || track->ended_seq >= agent->observed_seq);
        observe_quarantine(agent->workers, &agent->memory, d);
    }
    /* a runtime that never answered would only be one more thing to wait for */
    sandboxes_fill(agent->sandboxes,
                   runtime_facts(agent->runtime)->known ? agent->config.cri_socket : "",
                   agent->observed);
    intent_resolve(&agent->config, &wish, agent->observed, agent->intent);
    struct plan_options options = {
        .busy = agent->config.busy_policy,
        .failure = agent->config.failure_policy,
        .vfio_driver = agent->config.vfio_driver,
        .manage_vfio = agent->config.vfio_manage && !agent->intent->stand_back.vfio,
        .check_released = agent->config.recovery_check_released && !agent->may_not_open,
        .no_turn = !turn_is_ours(agent) && !change_any_writing(agent),
        .now_ms = loop_now_ms(agent->loop),
    };
    plan_make(&options, agent->intent, agent->observed, &agent->journal, agent->plan);
    evict_explain(agent->evict, agent->observed, agent->plan);
    workers_allow_modprobe(agent->workers, agent->config.recovery_load_modules);
    if (!agent->config.recovery_load_modules)
        agent->plan->load_vfio = false;
}

static void set_trouble(struct agent *agent, const char *reason, const char *text)
{
    if (*agent->trouble_reason || !*text)
        return; /* the first one is what has to be mended first */
    (void)snprintf(agent->trouble_reason, sizeof agent->trouble_reason, "%s", reason);
    (void)snprintf(agent->trouble, sizeof agent->trouble, "%s", text);
}

static void find_trouble(struct agent *agent)
{
    *agent->trouble_reason = *agent->trouble = '\0';
    set_trouble(agent, "HostUnreadable", agent->observed->stale);
    set_trouble(agent, "StateDirectoryFailed", agent->journal_error);
    set_trouble(agent, "OfferFailed", agent->offer_error);
    if (agent->observed->pods_unasked)
        set_trouble(agent, "UsersUnknown", agent->observed->unknown_why);
    if (agent->label_blocks && *publisher_error(agent->publisher)) {
        char text[400];
        (void)snprintf(text, sizeof text,
                       "nothing is changed while the Node may say that it is ready and cannot be "
                       "told otherwise: %s",
                       publisher_error(agent->publisher));
        set_trouble(agent, "ApiUnavailable", text);
    }
    set_trouble(agent, "WaitingForLease", agent->lease_error);
    bool waiting = false;
    int64_t now = loop_now_ms(agent->loop);
    for (size_t i = 0; i < agent->observed->n; i++) {
        const char *bdf = agent->observed->devices[i].dev.bdf;
        waiting = waiting || (agent->kube && serving_wants(agent->serving, bdf) &&
                              !serving_has(agent->serving, bdf));
    }
    if (!waiting)
        agent->unregistered_since_ms = 0;
    else if (agent->unregistered_since_ms == 0)
        agent->unregistered_since_ms = now;
    else if (now - agent->unregistered_since_ms >= KUBELET_PATIENCE_MS)
        set_trouble(agent, "KubeletUnavailable",
                    "the devices are ready, but kubelet has not accepted the device plugin; check "
                    "that kubelet runs and that devicePlugin.directory is right");
}

/* What cannot be written here is told by what can. */
static void judge_permissions(struct agent *agent, struct advice *ret)
{
    const char *cure = "the ServiceAccount lacks a rule of the chart: helm upgrade";
    if (!agent->kube)
        return;
    const char *labels = publisher_denied_labels(agent->publisher);
    const char *condition = publisher_denied_condition(agent->publisher);
    if (*labels)
        advice_add(ret, "the Node's labels cannot be written: %s", labels);
    if (*condition)
        advice_add(ret, "the Node's condition cannot be written: %s", condition);
    if (*kube_events_denied(agent->kube))
        advice_add(ret, "Events cannot be written: %s", kube_events_denied(agent->kube));
    if (*ret->text)
        advice_add(ret, "%s", cure);
    ret->blocks = *labels != '\0';
}

void agent_permissions_seen(struct agent *agent)
{
    struct advice now = {0};
    judge_permissions(agent, &now);
    if (strcmp(now.text, agent->told_advice[ADVICE_PERMISSION]) != 0)
        agent_kick(agent, LOOK_SYSFS, 0);
}

/* What stands in the way of pods on this node, and is not ours to mend. */
static void judge_surroundings(struct agent *agent)
{
    bool confidential = host_advice_wants_tee(agent->intent);
    bool serving = agent->intent->serve && !agent->intent->hands_off;
    struct runtime_needs needs = {
        .tee = !confidential          ? NULL
               : agent->observed->snp ? "snp"
               : agent->observed->tdx ? "tdx"
                                      : NULL,
        .cdi_dir = agent->config.cdi_enabled ? agent->config.cdi_directory : NULL,
        .runtime_injects = agent->config.cdi_devices,
    };
    memset(agent->advice, 0, sizeof agent->advice);
    judge_permissions(agent, &agent->advice[ADVICE_PERMISSION]);
    if (serving) {
        host_advice_tee(agent->intent, agent->observed, &agent->advice[ADVICE_TEE]);
        host_advice_vfio(agent->intent, agent->observed, &agent->advice[ADVICE_VFIO]);
        host_advice_switches(agent->intent, agent->observed, agent->plan,
                             &agent->advice[ADVICE_SWITCHES]);
    }
    if (serving)
        agent->advice[ADVICE_RIVAL] = *kubelet_view_rival(agent->kubelet_view);
    if (serving && confidential)
        agent->advice[ADVICE_GET] = *kubelet_view_get(agent->kubelet_view);
    if (serving)
        agent->advice[ADVICE_CDI_FILES] = *cdi_files_advice(agent->cdi_files);
    if (serving && agent->kube)
        runtime_judge(runtime_facts(agent->runtime), &needs, &agent->advice[ADVICE_RUNTIME]);
}

static void publish(struct agent *agent)
{
    bool rival = *agent->advice[ADVICE_RIVAL].text != '\0';
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct nv_device *dev = &agent->observed->devices[i].dev;
        const struct track *track = agent_track(agent, dev->bdf);
        struct publish_device *p = &agent->publish_devices[i];
        /* without Kubernetes CDI alone offers it: there need not be a kubelet. Where another plugin has a resource of
         * ours, kubelet may give a pod what nobody has verified: the node is not ready for any. */
        *p = (struct publish_device){
            .offered = agent->kube ? !rival && serving_has(agent->serving, dev->bdf)
                                   : serving_wants(agent->serving, dev->bdf),
            .objection = serving_objection(agent->serving, dev->bdf)};
        if (track && track->acting) {
            p->retrying = track->retrying;
            p->acting_ms = loop_now_ms(agent->loop) - track->acting_since_ms;
        }
        naming_resource(&agent->config, dev, p->resource, sizeof p->resource);
    }
    struct publish_input in = {
        .config = &agent->config,
        .intent = agent->intent,
        .observed = agent->observed,
        .plan = agent->plan,
        .devices = agent->publish_devices,
        .trouble_reason = agent->trouble_reason,
        .trouble = agent->trouble,
        .advice = agent->advice,
    };
    publish_done(&agent->published);
    publish_derive(&in, &agent->published);
    if (agent->publisher && agent->published.decided && !agent->node_gone)
        publisher_want(agent->publisher, &agent->published);
    tell(agent);
}

static void offer(struct agent *agent)
{
    struct err err = ERR_INIT;
    int r = serving_set(agent->serving, &agent->config, agent->intent, agent->observed, agent->plan,
                        &err);
    if (r < 0 && strcmp(agent->offer_error, err.msg) != 0)
        log_error("devices cannot be offered as they should be", "error", err.msg, NULL);
    (void)snprintf(agent->offer_error, sizeof agent->offer_error, "%s", r < 0 ? err.msg : "");
    for (size_t i = 0; i < agent->n_tracks; i++) {
        struct track *track = &agent->tracks[i];
        bool wanted = serving_wants(agent->serving, track->bdf);
        track->withdrawn = track->withdrawn && !wanted;
        track->withdrawn_look = track->withdrawn_look && !wanted;
    }
}

static void forget_overcome_failures(struct agent *agent)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct observed_device *d = &agent->observed->devices[i];
        if (d->failures == 0 || agent->plan->devices[i].decision != DECISION_IN_PLACE)
            continue;
        memory_succeeded(&agent->memory, d->dev.bdf);
        d->failures = 0;
        d->retry_at_ms = 0;
        *d->error = '\0';
    }
}

/* A device may have been read before anybody knew the orders. */
static void note_ordered(struct agent *agent)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *d = &agent->observed->devices[i];
        const struct journal_device *entry = journal_find(&agent->journal, d->dev.bdf);
        if (!entry || !entry->unordered || entry->device_id != d->dev.device_id ||
            d->knowledge != KNOWN_REGISTERS || d->report.active != entry->verified_mode ||
            d->report.active != agent->intent->devices[i].mode)
            continue;
        journal_put(&agent->journal, d->dev.bdf)->unordered = false;
        agent->journal_dirty = true;
    }
}

/* New orders are tried at once, whatever failed under the old ones. */
void agent_try_again(struct agent *agent)
{
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct observed_device *d = &agent->observed->devices[i];
        memory_succeeded(&agent->memory, d->dev.bdf);
        d->failures = 0;
        d->retry_at_ms = 0;
        *d->error = '\0';
    }
}

void agent_decide(struct agent *agent)
{
    bool blind = agent_is_blind(agent) || agent->options.explain;
    if (agent->stopping || agent->observed_seq == 0)
        return;
    make_plan(agent);
    if (agent->users_looked_ms == 0) {
        /* nothing is known to be idle, so nothing is healthy yet; but kubelet can get to know the resources meanwhile */
        if (!blind)
            offer(agent);
        return;
    }
    forget_overcome_failures(agent);
    if (!blind)
        note_ordered(agent);
    if (agent->journal_dirty)
        (void)agent_save_journal(agent);
    if (!blind) {
        offer(agent);
        find_trouble(agent);
        judge_surroundings(agent);
        publish(agent);
        change_evict(agent);
    }
    change_start_allowed(agent);
    if (agent->options.explain)
        agent_explain(agent);
    agent_tick(agent);
}

/* ---- time ---- */

static void sooner(int64_t *due_ms, int64_t at_ms)
{
    *due_ms = at_ms < *due_ms ? at_ms : *due_ms;
}

/* When the next look at users is due: soon while somebody is waited for, seldom while nothing is in use. */
static int64_t user_poll_ms(const struct agent *agent)
{
    int64_t every = agent->observed->pods_known ? IDLE_POLL_MS : HELD_POLL_MS;
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *d = &agent->observed->devices[i];
        bool waits = agent->plan->devices[i].decision == DECISION_BUSY;
        int64_t mine = waits                               ? FIRST_BUSY_POLL_MS
                       : d->n_pods > 0 || d->n_holders > 0 ? HELD_POLL_MS
                                                           : IDLE_POLL_MS;
        every = mine < every ? mine : every;
    }
    return agent->users_looked_ms + every;
}

/* A worker that is not ours tells nobody that it has ended. */
static void watch_locks(struct agent *agent, const struct observed_device *d)
{
    const struct memory_device *m = memory_find(&agent->memory, d->dev.bdf);
    if (!m || !m->locked || workers_is_locked(agent->workers, d->dev.bdf, NULL))
        return;
    log_info("the process that kept the device has let go of it", "bdf", d->dev.bdf, NULL);
    agent_kick(agent, LOOK_USERS, 0);
}

static void on_tick(void *arg)
{
    struct agent *agent = arg;
    agent->tick_timer = NULL;
    int64_t now = loop_now_ms(agent->loop);
    if (user_poll_ms(agent) <= now && !agent->look)
        agent_kick(agent, LOOK_USERS, 0);
    hotplug_poll(agent->hotplug);
    agent_permissions_seen(agent); /* Events have no end that anyone hears of */
    change_verify_idle(agent);
    bool turn_again = agent->turn_again_ms != 0 && agent->turn_again_ms <= now;
    if (turn_again)
        agent->turn_again_ms = 0;
    if (agent->unregistered_since_ms != 0 || turn_again)
        agent_kick(agent, LOOK_SYSFS, 0);
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *d = &agent->observed->devices[i];
        const struct track *track = agent_track(agent, d->dev.bdf);
        watch_locks(agent, d);
        bool overdue = track && track->acting && now - track->acting_since_ms >= PUBLISH_OVERDUE_MS;
        if (overdue || (d->retry_at_ms > 0 && d->retry_at_ms <= now))
            agent_kick(agent, LOOK_SYSFS, 0);
    }
    agent_tick(agent);
}

void agent_tick(struct agent *agent)
{
    int64_t now = loop_now_ms(agent->loop);
    int64_t due_ms = now + hotplug_poll_ms(agent->hotplug);
    if (agent->unregistered_since_ms != 0)
        sooner(&due_ms, now + KUBELET_PATIENCE_MS);
    if (agent->turn_again_ms > now)
        sooner(&due_ms, agent->turn_again_ms);
    if (!agent->look)
        sooner(&due_ms, user_poll_ms(agent));
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *d = &agent->observed->devices[i];
        const struct track *track = agent_track(agent, d->dev.bdf);
        if (d->retry_at_ms > now)
            sooner(&due_ms, d->retry_at_ms);
        if (d->quarantined)
            sooner(&due_ms, now + LOCKED_POLL_MS);
        if (track && track->acting && now - track->acting_since_ms < PUBLISH_OVERDUE_MS)
            sooner(&due_ms, track->acting_since_ms + PUBLISH_OVERDUE_MS);
    }
    loop_cancel(agent->tick_timer);
    int64_t wait = due_ms > now ? due_ms - now : 100;
    agent->tick_timer = loop_add_timer(agent->loop, wait, on_tick, agent);
}
