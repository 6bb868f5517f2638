#include "node-agent/http/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"

struct series {
    char *values[METRIC_MAX_LABELS];
    double value; /* counter, gauge; sum of a histogram */
    uint64_t count;
    uint64_t buckets[METRIC_MAX_BUCKETS]; /* not cumulative */
};

struct metric {
    struct metric *next;
    enum metric_kind kind;
    const char *name, *help;
    size_t n_labels, n_buckets;
    const char *labels[METRIC_MAX_LABELS];
    double buckets[METRIC_MAX_BUCKETS];
    size_t n_series, room;
    struct series *series;
};

struct metrics {
    struct metric *first, **end;
};

struct metrics *metrics_new(void)
{
    struct metrics *m = xcalloc(1, sizeof *m);
    m->end = &m->first;
    return m;
}

void metric_clear(struct metric *metric)
{
    for (size_t i = 0; i < metric->n_series; i++)
        for (size_t k = 0; k < metric->n_labels; k++)
            free(metric->series[i].values[k]);
    metric->n_series = 0;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (struct metric *m = metrics->first, *next; m; m = next) {
        next = m->next;
        metric_clear(m);
        free(m->series);
        free(m);
    }
    free(metrics);
}

struct metric *metrics_add(struct metrics *metrics, enum metric_kind kind, const char *name,
                           const char *help, const char *const *labels, const double *buckets,
                           size_t n_buckets)
{
    struct metric *m = xcalloc(1, sizeof *m);
    m->kind = kind;
    m->name = name;
    m->help = help;
    for (; labels && *labels && m->n_labels < METRIC_MAX_LABELS; labels++)
        m->labels[m->n_labels++] = *labels;
    for (; m->n_buckets < n_buckets && m->n_buckets < METRIC_MAX_BUCKETS; m->n_buckets++)
        m->buckets[m->n_buckets] = buckets[m->n_buckets];
    *metrics->end = m;
    metrics->end = &m->next;
    return m;
}

static struct series *find(struct metric *m, const char *const *values)
{
    for (size_t i = 0; i < m->n_series; i++) {
        bool same = true;
        for (size_t k = 0; same && k < m->n_labels; k++)
            same = strcmp(m->series[i].values[k], values[k]) == 0;
        if (same)
            return &m->series[i];
    }
    return NULL;
}

static struct series *series_of(struct metric *m, const char *const *values)
{
    static const char *const other[METRIC_MAX_LABELS] = {"other", "other", "other", "other"};
    struct series *s = find(m, values);
    if (s)
        return s;
    if (m->n_labels && m->n_series + 1 >= METRIC_MAX_SERIES) { /* the last place is for "other" */
        values = other;
        s = find(m, values);
        if (s)
            return s;
    }
    if (m->n_series == m->room) {
        m->room = m->room ? m->room * 2 : 4;
        m->series = xrealloc(m->series, m->room, sizeof *m->series);
    }
    s = &m->series[m->n_series++];
    *s = (struct series){0};
    for (size_t k = 0; k < m->n_labels; k++)
        s->values[k] = xstrdup(values[k]);
    return s;
}

void metric_inc(struct metric *metric, double by, const char *const *values)
{
    series_of(metric, values)->value += by;
}

void metric_set(struct metric *metric, double to, const char *const *values)
{
    series_of(metric, values)->value = to;
}

void metric_observe(struct metric *metric, double value, const char *const *values)
{
    struct series *s = series_of(metric, values);
    s->count++;
    s->value += value;
    for (size_t i = 0; i < metric->n_buckets; i++)
        if (value <= metric->buckets[i]) {
            s->buckets[i]++;
            return;
        }
}

/* --- text --- */

struct text {
    char *p;
    size_t len, room;
};

static void add_bytes(struct text *t, const char *p, size_t n)
{
    if (t->len + n + 1 > t->room) {
        t->room = (t->len + n + 1) * 2;
        t->p = xrealloc(t->p, t->room, 1);
    }
    memcpy(t->p + t->len, p, n);
    t->len += n;
    t->p[t->len] = 0;
}

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n > 0)
        add_bytes(t, small, (size_t)n < sizeof small ? (size_t)n : sizeof small - 1);
}

/* Backslash, line break and (in label values) the quote are escaped; other control characters become "?". */
static void add_escaped(struct text *t, const char *s, bool quote)
{
    for (; *s; s++) {
        if (*s == '\\')
            add_bytes(t, "\\\\", 2);
        else if (*s == '\n')
            add_bytes(t, "\\n", 2);
        else if (*s == '"' && quote)
            add_bytes(t, "\\\"", 2);
        else if ((unsigned char)*s < ' ' || *s == 0x7f)
            add_bytes(t, "?", 1);
        else
            add_bytes(t, s, 1);
    }
}

static void add_number(struct text *t, double v)
{
    if (isnan(v))
        add(t, "NaN\n");
    else if (isinf(v))
        add(t, v > 0 ? "+Inf\n" : "-Inf\n");
    else if (v == floor(v) && fabs(v) < 1e15)
        add(t, "%.0f\n", v);
    else
        add(t, "%.9g\n", v);
}

/* "{a="1",le="0.5"} "; @le may be NULL */
static void add_labels(struct text *t, const struct metric *m, const struct series *s,
                       const char *le)
{
    const char *separator = "{";
    for (size_t k = 0; k < m->n_labels; k++) {
        add(t, "%s%s=\"", separator, m->labels[k]);
        add_escaped(t, s->values[k], true);
        add(t, "\"");
        separator = ",";
    }
    if (le)
        add(t, "%sle=\"%s\"", separator, le);
    add(t, m->n_labels || le ? "} " : " ");
}

static void add_histogram(struct text *t, const struct metric *m, const struct series *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_buckets; i++) {
        char le[32];
        (void)snprintf(le, sizeof le, "%.9g", m->buckets[i]);
        sum += s->buckets[i];
        add(t, "%s_bucket", m->name);
        add_labels(t, m, s, le);
        add(t, "%llu\n", (unsigned long long)sum);
    }
    add(t, "%s_bucket", m->name);
    add_labels(t, m, s, "+Inf");
    add(t, "%llu\n%s_sum", (unsigned long long)s->count, m->name);
    add_labels(t, m, s, NULL);
    add_number(t, s->value);
    add(t, "%s_count", m->name);
    add_labels(t, m, s, NULL);
    add(t, "%llu\n", (unsigned long long)s->count);
}

char *metrics_render(const struct metrics *metrics, size_t *ret_len)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct text t = {0};
    add_bytes(&t, "", 0);
    for (const struct metric *m = metrics->first; m; m = m->next) {
        add(&t, "# HELP %s ", m->name);
        add_escaped(&t, m->help, false);
        add(&t, "\n# TYPE %s %s\n", m->name, types[m->kind]);
        for (size_t i = 0; i < m->n_series; i++) {
            const struct series *s = &m->series[i];
            if (m->kind == METRIC_HISTOGRAM) {
                add_histogram(&t, m, s);
                continue;
            }
            add(&t, "%s", m->name);
            add_labels(&t, m, s, NULL);
            add_number(&t, s->value);
        }
    }
    if (ret_len)
        *ret_len = t.len;
    return t.p;
}

/* --- the agent's --- */

#define LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void add_devices(struct agent_metrics *a)
{
    const struct {
        struct metric **to;
        enum metric_kind kind;
        const char *name, *help;
        const char *labels[METRIC_MAX_LABELS + 1];
    } list[] = {
        {&a->device_info,
         METRIC_GAUGE,
         "ccnode_device_info",
         "What it is and what it is bound to.",
         {"device", "kind", "resource", "driver"}},
        {&a->device_state,
         METRIC_GAUGE,
         "ccnode_device_state",
         "Its mode and health.",
         {"device", "mode", "health"}},
        {&a->device_pod,
         METRIC_GAUGE,
         "ccnode_device_pod",
         "Who has it, as kubelet says.",
         {"device", "namespace", "pod"}},
        {&a->device_power,
         METRIC_GAUGE,
         "ccnode_device_power_state",
         "PCI power state.",
         {"device", "state"}},
        {&a->device_speed,
         METRIC_GAUGE,
         "ccnode_device_link_transfers_per_second",
         "What its PCIe link runs at, per lane.",
         {"device"}},
        {&a->device_max_speed,
         METRIC_GAUGE,
         "ccnode_device_link_max_transfers_per_second",
         "What its PCIe link could run at, per lane.",
         {"device"}},
        {&a->device_width,
         METRIC_GAUGE,
         "ccnode_device_link_width",
         "Lanes of its PCIe link.",
         {"device"}},
        {&a->device_max_width,
         METRIC_GAUGE,
         "ccnode_device_link_max_width",
         "Lanes that its PCIe link could have.",
         {"device"}},
        {&a->device_errors,
         METRIC_COUNTER,
         "ccnode_device_pcie_errors_total",
         "PCIe errors (AER) that the kernel counted.",
         {"device", "severity"}},
        {&a->device_resets,
         METRIC_COUNTER,
         "ccnode_device_resets_total",
         "Resets by this agent that succeeded.",
         {"device"}},
        {&a->device_failures,
         METRIC_COUNTER,
         "ccnode_device_failures_total",
         "Steps that failed.",
         {"device", "step", "code"}},
        {&a->device_last_failure,
         METRIC_GAUGE,
         "ccnode_device_last_failure_timestamp_seconds",
         "When a step last failed so.",
         {"device", "step", "code"}},
        {&a->device_row,
         METRIC_GAUGE,
         "ccnode_device_consecutive_failures",
         "Failures since it last was as wanted.",
         {"device"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        *list[i].to = metrics_add(a->registry, list[i].kind, list[i].name, list[i].help,
                                  list[i].labels, NULL, 0);
}

void agent_metrics_init(struct agent_metrics *a, const char *version)
{
    /* a change takes 1.8 s when all is well and 210 s when a reset hangs; a step from 1 ms */
    static const double change[] = {0.5, 1, 1.5, 2, 2.5, 3, 5, 10, 30, 60, 120, 300};
    static const double step[] = {0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300};
    struct metrics *m = a->registry = metrics_new();
    a->devices = metrics_add(m, METRIC_GAUGE, "ccnode_devices", "Managed devices now.",
                             LABELS("kind", "mode", "health"), NULL, 0);
    a->mode_changes =
        metrics_add(m, METRIC_COUNTER, "ccnode_mode_changes_total",
                    "Finished changes of the CC mode of the node.", LABELS("result"), NULL, 0);
    a->mode_change_seconds =
        metrics_add(m, METRIC_HISTOGRAM, "ccnode_mode_change_seconds",
                    "From the order to the verified mode.", NULL, change, ARRAY_LEN(change));
    a->step_seconds = metrics_add(m, METRIC_HISTOGRAM, "ccnode_step_seconds",
                                  "One step on one device.", LABELS("step"), step, ARRAY_LEN(step));
    a->allocations =
        metrics_add(m, METRIC_COUNTER, "ccnode_allocations_total", "Allocate calls of the kubelet.",
                    LABELS("resource", "result"), NULL, 0);
    a->kubelet_registrations =
        metrics_add(m, METRIC_COUNTER, "ccnode_kubelet_registrations_total",
                    "Successful registrations with the kubelet.", LABELS("resource"), NULL, 0);
    a->api_requests = metrics_add(m, METRIC_COUNTER, "ccnode_api_requests_total",
                                  "Requests to the Kubernetes API; code \"error\" had no answer.",
                                  LABELS("verb", "code"), NULL, 0);
    a->watch_restarts =
        metrics_add(m, METRIC_COUNTER, "ccnode_watch_restarts_total",
                    "Why the watch of the Node was opened again.", LABELS("reason"), NULL, 0);
    a->drift_detected =
        metrics_add(m, METRIC_COUNTER, "ccnode_drift_detected_total",
                    "Devices found in another mode or driver than we left them.", NULL, NULL, 0);
    a->build_info =
        metrics_add(m, METRIC_GAUGE, "ccnode_build_info", "Always 1.", LABELS("version"), NULL, 0);
    add_devices(a);
    metric_set(a->build_info, 1, LABELS(version));
    metric_inc(a->drift_detected, 0, NULL); /* a counter without labels exists from the start */
}

void agent_metrics_done(struct agent_metrics *a)
{
    metrics_free(a->registry);
    *a = (struct agent_metrics){0};
}
