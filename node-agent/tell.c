/* Events, metrics, readiness files, pages: how people hear of what publish derived. */
#include <stdarg.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/agent.h"
#include "node-agent/status.h"
#include "node-agent/validations.h"

void tell_event(struct agent *agent, const char *type, const char *reason, const char *action,
                const char *fmt, ...)
{
    char note[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(note, sizeof note, fmt, ap);
    va_end(ap);
    if (agent->kube && !*node_check_foreign(agent->node_check))
        kube_event(agent->kube, type, reason, action, note);
}

/* ---- transitions ---- */

static bool is_final(const char *state)
{
    return strcmp(state, "changing") != 0 && strcmp(state, "waiting-busy") != 0;
}

static void end_change(struct agent *agent, const char *result)
{
    const char *const labels[] = {result};
    metric_inc(agent->metrics.mode_changes, 1, labels);
    if (agent->change_started_ms == 0)
        return;
    double seconds = (double)(loop_now_ms(agent->loop) - agent->change_started_ms) / 1000;
    metric_observe(agent->metrics.mode_change_seconds, seconds, NULL);
    agent->change_started_ms = 0;
}

static void count_wanted(const struct agent *agent, char *ret, size_t room)
{
    const char *mode = "";
    size_t n = 0;
    for (size_t i = 0; i < agent->observed->n; i++) {
        enum decision decision = agent->plan->devices[i].decision;
        if (decision != DECISION_CHANGE && decision != DECISION_ACTING)
            continue;
        n++;
        mode = cc_mode_name(agent->intent->devices[i].mode);
    }
    (void)snprintf(ret, room, "%zu device%s, to mode %s", n, n == 1 ? "" : "s",
                   agent->intent->mixed ? "as asked for each" : mode);
}

/* One Event for each transition of the node's state, none for standing still. */
static void tell_state(struct agent *agent, const char *state)
{
    const struct published *p = &agent->published;
    if (strcmp(state, agent->last_state) == 0)
        return;
    bool was_open = strcmp(agent->last_state, "changing") == 0 ||
                    strcmp(agent->last_state, "waiting-busy") == 0;
    bool first = *agent->last_state == '\0';
    (void)snprintf(agent->last_state, sizeof agent->last_state, "%s", state);
    log_info("state of the node", "state", state, "ready",
             p->ready_state.action == LABEL_SET ? p->ready_state.value : "", "reason",
             p->cond_reason, "message", p->cond_message, NULL);
    if (strcmp(state, "changing") == 0) {
        char what[100];
        count_wanted(agent, what, sizeof what);
        if (agent->change_started_ms == 0)
            agent->change_started_ms = loop_now_ms(agent->loop);
        tell_event(agent, "Normal", "ModeChangeStarted", "ChangeMode", "%s", what);
    } else if (strcmp(state, "waiting-busy") == 0) {
        tell_event(agent, "Warning", "WaitingForPods", "ChangeMode", "%s", p->cond_message);
    } else if (strcmp(state, "failed") == 0 || strcmp(state, "degraded") == 0) {
        end_change(agent, "failed");
        tell_event(agent, "Warning", "ModeChangeFailed", "ChangeMode", "%s", p->cond_message);
    } else if (is_final(state) && (was_open || !first)) {
        end_change(agent, "changed");
        tell_event(agent, "Normal", "ModeChanged", "ChangeMode", "%s", p->cond_message);
    }
}

static void tell_new(struct agent *agent, char *last, size_t room, const char *reason,
                     const char *text)
{
    if (strcmp(last, reason) == 0)
        return;
    (void)snprintf(last, room, "%s", reason);
    if (!*reason)
        return;
    log_warning(text, "reason", reason, NULL);
    tell_event(agent, "Warning", reason, "Configure", "%s", text);
}

/* Told once, and again when something else is missing. */
static void tell_advice(struct agent *agent, enum advice_kind kind)
{
    char *told = agent->told_advice[kind];
    if (strcmp(told, agent->advice[kind].text) == 0)
        return;
    memcpy(told, agent->advice[kind].text, sizeof agent->told_advice[kind]);
    if (!*told) {
        log_info(advice_relief(kind), NULL);
        return;
    }
    log_warning(advice_title(kind), "why", told, NULL);
    tell_event(agent, "Warning", advice_reason(kind), "Configure", "%s", told);
}

/* A device that was fine and is not any more, without a change that would explain it. */
static void tell_devices(struct agent *agent)
{
    struct publish_input in = {
        &agent->config,         agent->intent,         agent->observed, agent->plan,
        agent->publish_devices, agent->trouble_reason, agent->trouble,  NULL};
    for (size_t i = 0; i < agent->observed->n; i++) {
        struct track *track = agent_track(agent, agent->observed->devices[i].dev.bdf);
        if (!track)
            continue;
        bool failed = strcmp(publish_health(&in, i), "failed") == 0;
        bool during_change = agent->change_started_ms != 0;
        if (failed && !track->told_unhealthy) {
            log_warning("device is unhealthy", "bdf", track->bdf, "reason", publish_reason(&in, i),
                        NULL);
            if (!during_change && agent->published.n_failed <= 4)
                tell_event(agent, "Warning", "DeviceUnhealthy", "Observe", "%s: %s", track->bdf,
                           publish_reason(&in, i));
        }
        track->told_unhealthy =
            failed || (track->told_unhealthy && strcmp(publish_health(&in, i), "healthy") != 0);
    }
}

static void write_validations(struct agent *agent)
{
    const struct intent *intent = agent->intent;
    struct err err = ERR_INIT;
    struct validations wanted = {
        .workload = intent->hands_off ? NULL
                    : intent->serve   ? "vm-passthrough"
                                      : "container",
        .vfio_ready = agent->published.vfio_ready && intent->serve,
        .mode_ready = agent->published.mode_ready,
        .leave_vfio = intent->stand_back.vfio,
        .leave_mode = intent->stand_back.mode,
    };
    if (!agent->config.validations_enabled)
        return;
    int r = validations_sync(&agent->host, agent->config.validations_directory, &wanted, &err);
    if (r < 0 && !agent->validations_failed)
        log_warning("the readiness files cannot be written", "error", err.msg, NULL);
    agent->validations_failed = r < 0;
}

void tell(struct agent *agent)
{
    const struct published *p = &agent->published;
    tell_new(agent, agent->last_problem, sizeof agent->last_problem, agent->intent->problem_reason,
             agent->intent->problem);
    int64_t away_ms =
        agent->unregistered_since_ms ? loop_now_ms(agent->loop) - agent->unregistered_since_ms : 0;
    bool news = publish_is_event(agent->trouble_reason, away_ms);
    tell_new(agent, agent->last_trouble, sizeof agent->last_trouble,
             news ? agent->trouble_reason : "", agent->trouble);
    for (int kind = 0; kind < ADVICE_KINDS; kind++)
        tell_advice(agent, (enum advice_kind)kind);
    if (p->decided) {
        tell_devices(agent);
        tell_state(agent, p->mode_state.action == LABEL_SET ? p->mode_state.value : "none");
        write_validations(agent);
    }
    status_soon(agent);
}

void tell_step(struct agent *agent, const char *bdf, const struct plan_step *step,
               const struct worker_answer *answer)
{
    const char *name = worker_step_name(step->step);
    status_soon(agent);
    if (!answer) {
        log_debug("step begins", "bdf", bdf, "step", name, "argument", step->argument, NULL);
        return;
    }
    const char *const labels[] = {name};
    metric_observe(agent->metrics.step_seconds, (double)answer->ms / 1000, labels);
    const char *const by_device[] = {bdf};
    if (answer->ok && step->step == WORKER_RESET)
        metric_inc(agent->metrics.device_resets, 1, by_device);
    char ms[24];
    (void)snprintf(ms, sizeof ms, "%lld", (long long)answer->ms);
    if (answer->ok)
        log_debug("step done", "bdf", bdf, "step", name, "ms", ms, NULL);
    else
        log_warning("step failed", "bdf", bdf, "step", name, "ms", ms, "error", answer->error,
                    "cure", answer->cure, NULL);
}

/* ---- kubelet ---- */

void tell_plugin_event(void *arg, const struct dp_event *event)
{
    struct agent *agent = arg;
    const char *const by_resource[] = {event->resource};
    switch (event->kind) {
    case DP_REGISTERED:
        metric_inc(agent->metrics.kubelet_registrations, 1, by_resource);
        log_info("registered with kubelet", "resource", event->resource, NULL);
        if (!agent->journal.registered) { /* from now on kubelet may give devices to pods */
            agent->journal.registered = true;
            (void)kubelet_age_ms(&agent->memory.kubelet, &agent->host,
                                 agent->config.pod_resources_socket, loop_now_ms(agent->loop));
            kubelet_age_name(&agent->memory.kubelet, agent->journal.kubelet);
            (void)agent_save_journal(agent);
        }
        /* kubelet restarts when the runtime's host was worked on */
        runtime_ask_soon(agent->runtime);
        kubelet_view_registered(agent->kubelet_view);
        agent_kick(agent, LOOK_SYSFS, 0);
        break;
    case DP_ALLOCATED:
    case DP_ALLOC_FAILED: {
        bool ok = event->kind == DP_ALLOCATED;
        const char *const labels[] = {event->resource, ok ? "ok" : "refused"};
        metric_inc(agent->metrics.allocations, 1, labels);
        if (ok)
            log_debug("device given to a pod", "resource", event->resource, "id",
                      event->n_ids > 0 ? event->ids[0] : "", NULL);
        else
            log_warning("allocation refused", "resource", event->resource, "why", event->text,
                        NULL);
        agent_kick(agent, LOOK_USERS, 1000); /* kubelet names the pod once it is admitted */
        break;
    }
    case DP_TROUBLE:
        tell_event(agent, "Warning", "DevicePluginTrouble", "Offer", "%s: %s", event->resource,
                   event->text);
        log_warning("device plugin", "resource", event->resource, "trouble", event->text, NULL);
        break;
    case DP_WAITING:
    case DP_LOST:
    case DP_REFUSED:
        log_warning("kubelet", "resource", event->resource, "state",
                    event->kind == DP_WAITING ? "away"
                    : event->kind == DP_LOST  ? "lost"
                                              : "refused",
                    "why", event->text, NULL);
        agent_kick(agent, LOOK_SYSFS, SETTLE_KUBELET_MS);
        break;
    }
}

/* ---- pages ---- */

static void mirror_kube(struct agent *agent)
{
    if (!agent->kube)
        return;
    const struct kube_stats *stats = kube_stats(agent->kube);
    for (size_t i = 0; i < stats->n_requests; i++) {
        const char *const labels[] = {stats->requests[i].verb, stats->requests[i].code};
        metric_set(agent->metrics.api_requests, (double)stats->requests[i].count, labels);
    }
    for (size_t i = 0; i < stats->n_restarts; i++) {
        const char *const labels[] = {stats->restarts[i].reason};
        metric_set(agent->metrics.watch_restarts, (double)stats->restarts[i].count, labels);
    }
}

char *tell_metrics(void *arg, size_t *ret_len)
{
    struct agent *agent = arg;
    struct publish_input in = {
        &agent->config,         agent->intent,         agent->observed, agent->plan,
        agent->publish_devices, agent->trouble_reason, agent->trouble,  NULL};
    metric_clear(agent->metrics.devices);
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *seen = &agent->observed->devices[i];
        enum cc_mode mode = seen->knowledge == KNOWN_NOT ? CC_MODE_UNKNOWN : seen->report.active;
        const char *const labels[] = {nv_kind_name(seen->dev.kind), cc_mode_name(mode),
                                      publish_health(&in, i)};
        metric_inc(agent->metrics.devices, 1, labels);
    }
    tell_device_metrics(agent);
    mirror_kube(agent);
    return metrics_render(agent->metrics.registry, ret_len);
}

char *tell_plan(void *arg, size_t *ret_len)
{
    struct agent *agent = arg;
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);
    if (!out)
        abort(); /* out of memory */
    plan_print_json(agent->plan, agent->intent, agent->observed, out);
    (void)fclose(out);
    return text;
}

bool tell_ready(void *arg, char **ret_text)
{
    struct agent *agent = arg;
    const char *why = "";
    if (*node_check_foreign(agent->node_check))
        why = node_check_foreign(agent->node_check);
    else if (agent->users_looked_ms == 0)
        why = *agent->look_error ? agent->look_error : "the node has not been looked at yet";
    else if (agent_is_blind(agent))
        why = *agent->watch_error ? agent->watch_error
              : *node_check_error(agent->node_check)
                  ? node_check_error(agent->node_check)
                  : "the API server has not answered yet, orders are not known";
    else if (*agent->trouble_reason)
        why = agent->trouble;
    *ret_text = xasprintf("%s\n", *why ? why : "ok");
    return !*why;
}
