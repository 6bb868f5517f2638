/* A small registry of counters, gauges and histograms with labels, and its Prometheus text.
 *
 * One thread. Names and label names are string literals of ours (kept by reference); label values may come from anywhere
 * and are escaped. A metric keeps at most METRIC_MAX_SERIES combinations; more are counted under the one with all label
 * values "other", so nobody can grow the agent by inventing values.
 * Format: Prometheus text exposition format 0.0.4 (prometheus/docs, exposition_formats.md).
 */
#ifndef CCN_HTTP_METRICS_H
#define CCN_HTTP_METRICS_H

#include <stddef.h>
#include <stdint.h>

#define METRIC_MAX_SERIES 256
#define METRIC_MAX_LABELS 4
#define METRIC_MAX_BUCKETS 16

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metrics;
struct metric;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics); /* accepts NULL */

/**
 * metrics_add() - declare a metric
 * @labels: names, ended by NULL; at most METRIC_MAX_LABELS; NULL = none
 * @buckets: upper bounds in ascending order for a histogram, else NULL
 */
struct metric *metrics_add(struct metrics *metrics, enum metric_kind kind, const char *name,
                           const char *help, const char *const *labels, const double *buckets,
                           size_t n_buckets);

/* @values: one per label, in the order declared; NULL when there are no labels. */
void metric_inc(struct metric *metric, double by, const char *const *values); /* counter, gauge */
void metric_set(struct metric *metric, double to,
                const char *const *values); /* also for mirrored counters */
void metric_observe(struct metric *metric, double value, const char *const *values); /* histogram */
void metric_clear(struct metric *metric); /* forget all series: for gauges that are written anew */

/* metrics_render() - text of all, in the order declared, series in order of first use; the caller's */
char *metrics_render(const struct metrics *metrics, size_t *ret_len);

/* The metrics of interface.md, declared in one place. */
struct agent_metrics {
    struct metrics *registry;
    struct metric *devices;               /* gauge: kind, mode, health */
    struct metric *mode_changes;          /* counter: result */
    struct metric *mode_change_seconds;   /* histogram */
    struct metric *step_seconds;          /* histogram: step */
    struct metric *allocations;           /* counter: resource, result */
    struct metric *kubelet_registrations; /* counter: resource */
    struct metric *api_requests;          /* counter: verb, code */
    struct metric *watch_restarts;        /* counter: reason */
    struct metric *drift_detected;        /* counter */
    struct metric *build_info;            /* gauge 1: version */

    /* of each device, by its PCI address; what is not known has no sample */
    struct metric *device_info;  /* gauge 1: device, kind, resource, driver */
    struct metric *device_state; /* gauge 1: device, mode, health */
    struct metric *device_pod;   /* gauge 1: device, namespace, pod */
    struct metric *device_power; /* gauge 1: device, state */
    struct metric *device_speed; /* gauge: device */
    struct metric *device_max_speed;
    struct metric *device_width;
    struct metric *device_max_width;
    struct metric *device_errors;       /* counter, of the kernel: device, severity */
    struct metric *device_resets;       /* counter: device */
    struct metric *device_failures;     /* counter: device, step, code */
    struct metric *device_last_failure; /* gauge, Unix time: device, step, code */
    struct metric *device_row;          /* gauge, failures in a row: device */
};

void agent_metrics_init(struct agent_metrics *metrics, const char *version);
void agent_metrics_done(struct agent_metrics *metrics);

#endif
