/* The metrics of each device, written anew whenever somebody asks for them. */
#include <string.h>
#include <time.h>

#include "base/auto.h"
#include "node-agent/agent.h"

#define LABELS(...) ((const char *const[]){__VA_ARGS__})

static void set_known(struct metric *metric, int64_t value, double unit, const char *bdf)
{
    if (value >= 0)
        metric_set(metric, (double)value * unit, LABELS(bdf));
}

static void set_errors(struct metric *metric, int64_t value, const char *bdf, const char *severity)
{
    if (value >= 0)
        metric_set(metric, (double)value, LABELS(bdf, severity));
}

static void set_bus(struct agent_metrics *m, const struct bus_device *bus)
{
    if (*bus->power)
        metric_set(m->device_power, 1, LABELS(bus->bdf, bus->power));
    set_known(m->device_speed, bus->speed, 1e6, bus->bdf);
    set_known(m->device_max_speed, bus->max_speed, 1e6, bus->bdf);
    set_known(m->device_width, bus->width, 1, bus->bdf);
    set_known(m->device_max_width, bus->max_width, 1, bus->bdf);
    set_errors(m->device_errors, bus->correctable, bus->bdf, "correctable");
    set_errors(m->device_errors, bus->nonfatal, bus->bdf, "nonfatal");
    set_errors(m->device_errors, bus->fatal, bus->bdf, "fatal");
}

static void set_device(struct agent_metrics *m, const struct observed_device *seen,
                       const char *resource, const char *health)
{
    const char *bdf = seen->dev.bdf;
    enum cc_mode mode = seen->knowledge == KNOWN_NOT ? CC_MODE_UNKNOWN : seen->report.active;
    metric_set(m->device_info, 1,
               LABELS(bdf, nv_kind_name(seen->dev.kind), resource,
                      *seen->dev.driver ? seen->dev.driver : "none"));
    metric_set(m->device_state, 1, LABELS(bdf, cc_mode_name(mode), health));
    metric_set(m->device_row, seen->failures, LABELS(bdf));
    metric_inc(m->device_resets, 0, LABELS(bdf)); /* exists from the start */
    for (size_t i = 0; i < seen->n_pods; i++)
        metric_set(m->device_pod, 1, LABELS(bdf, seen->pods[i].namespace, seen->pods[i].name));
}

void tell_device_metrics(struct agent *agent)
{
    struct agent_metrics *m = &agent->metrics;
    struct publish_input in = {
        &agent->config,         agent->intent,         agent->observed, agent->plan,
        agent->publish_devices, agent->trouble_reason, agent->trouble,  NULL};
    struct metric *const anew[] = {m->device_info,  m->device_state,     m->device_pod,
                                   m->device_power, m->device_speed,     m->device_max_speed,
                                   m->device_width, m->device_max_width, m->device_errors,
                                   m->device_row};
    for (size_t i = 0; i < ARRAY_LEN(anew); i++)
        metric_clear(anew[i]);
    for (size_t i = 0; i < agent->observed->n; i++) {
        const struct observed_device *seen = &agent->observed->devices[i];
        const struct bus_device *bus = bus_view_find(agent->bus_view, seen->dev.bdf);
        set_device(m, seen, agent->publish_devices[i].resource, publish_health(&in, i));
        if (bus)
            set_bus(m, bus);
    }
}

void tell_failure(struct agent *agent, const char *bdf, const char *step, const char *code)
{
    struct agent_metrics *m = &agent->metrics;
    metric_inc(m->device_failures, 1, LABELS(bdf, step, code));
    metric_set(m->device_last_failure, (double)time(NULL), LABELS(bdf, step, code));
}

/* ---- asked for ---- */

static void on_bus_seen(void *arg)
{
    struct agent *agent = arg;
    httpd_go_on(agent->httpd);
}

bool tell_prepare_metrics(void *arg)
{
    struct agent *agent = arg;
    if (!agent->bus_view)
        agent->bus_view = bus_view_new(agent->workers, on_bus_seen, agent);
    return !bus_view_look(agent->bus_view);
}
