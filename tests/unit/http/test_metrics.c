#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/http/metrics.h"

#define VALUES(...) ((const char *const[]){__VA_ARGS__})

static void expect(const struct metrics *m, const char *want)
{
    size_t len = 0;
    AUTO_FREE char *text = metrics_render(m, &len);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
}

static void test_empty(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    expect(m, "");
    metrics_free(m);
}

static void test_counter_and_gauge(void **state)
{
    (void)state;
    static const char *const labels[] = {"verb", "code", NULL};
    struct metrics *m = metrics_new();
    struct metric *c = metrics_add(m, METRIC_COUNTER, "a_total", "A\nb \\.", labels, NULL, 0);
    struct metric *g = metrics_add(m, METRIC_GAUGE, "g", "G.", NULL, NULL, 0);
    metric_inc(c, 1, VALUES("get", "200"));
    metric_inc(c, 2, VALUES("get", "200"));
    metric_set(c, 7, VALUES("patch", "409"));
    metric_set(g, 0.25, NULL);
    expect(m, "# HELP a_total A\\nb \\\\.\n# TYPE a_total counter\n"
              "a_total{verb=\"get\",code=\"200\"} 3\na_total{verb=\"patch\",code=\"409\"} 7\n"
              "# HELP g G.\n# TYPE g gauge\ng 0.25\n");
    metric_clear(c);
    metric_set(g, -INFINITY, NULL);
    expect(m, "# HELP a_total A\\nb \\\\.\n# TYPE a_total counter\n# HELP g G.\n# TYPE g gauge\ng "
              "-Inf\n");
    metrics_free(m);
}

static void test_label_values_are_escaped(void **state)
{
    (void)state;
    static const char *const labels[] = {"x", NULL};
    struct metrics *m = metrics_new();
    struct metric *g = metrics_add(m, METRIC_GAUGE, "g", "G", labels, NULL, 0);
    metric_set(g, 1, VALUES("a\"b\\c\nd\re\x7f"));
    expect(m, "# HELP g G\n# TYPE g gauge\ng{x=\"a\\\"b\\\\c\\nd?e?\"} 1\n");
    metrics_free(m);
}

static void test_histogram(void **state)
{
    (void)state;
    static const char *const labels[] = {"step", NULL};
    static const double buckets[] = {0.5, 1, 10};
    struct metrics *m = metrics_new();
    struct metric *h = metrics_add(m, METRIC_HISTOGRAM, "h", "H", labels, buckets, 3);
    static const double seen[] = {0.5, 0.6, 1, 9, 10.5};
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        metric_observe(h, seen[i], VALUES("reset"));
    expect(m, "# HELP h H\n# TYPE h histogram\n"
              "h_bucket{step=\"reset\",le=\"0.5\"} 1\nh_bucket{step=\"reset\",le=\"1\"} 3\n"
              "h_bucket{step=\"reset\",le=\"10\"} 4\nh_bucket{step=\"reset\",le=\"+Inf\"} 5\n"
              "h_sum{step=\"reset\"} 21.6\nh_count{step=\"reset\"} 5\n");
    metrics_free(m);
}

static void test_invented_values_do_not_grow_it(void **state)
{
    (void)state;
    static const char *const labels[] = {"x", NULL};
    struct metrics *m = metrics_new();
    struct metric *c = metrics_add(m, METRIC_COUNTER, "c", "C", labels, NULL, 0);
    for (int i = 0; i < 10000; i++) {
        char value[16];
        (void)snprintf(value, sizeof value, "v%d", i);
        metric_inc(c, 1, VALUES(value));
    }
    AUTO_FREE char *text = metrics_render(m, NULL);
    size_t lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 2 + METRIC_MAX_SERIES);
    assert_non_null(strstr(text, "c{x=\"other\"} 9745\n"));
    metrics_free(m);
}

static void test_names_of_the_interface(void **state)
{
    (void)state;
    static const char *const names[] = {"devices gauge",
                                        "mode_changes_total counter",
                                        "mode_change_seconds histogram",
                                        "step_seconds histogram",
                                        "allocations_total counter",
                                        "kubelet_registrations_total counter",
                                        "api_requests_total counter",
                                        "watch_restarts_total counter",
                                        "drift_detected_total counter",
                                        "build_info gauge"};
    struct agent_metrics a;
    agent_metrics_init(&a, "1.2.3");
    AUTO_FREE char *text = metrics_render(a.registry, NULL);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *line = xasprintf("\n# TYPE ccnode_%s\n", names[i]);
        if (!strstr(text, line))
            fail_msg("missing:%s", line);
    }
    assert_non_null(strstr(text, "ccnode_build_info{version=\"1.2.3\"} 1\n"));
    assert_non_null(strstr(text, "ccnode_drift_detected_total 0\n"));
    agent_metrics_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_counter_and_gauge),
        cmocka_unit_test(test_label_values_are_escaped),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_invented_values_do_not_grow_it),
        cmocka_unit_test(test_names_of_the_interface),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
