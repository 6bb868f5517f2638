/* Workers and act with a stand-in for ccnode-device: real processes, real pipes. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/fs.h"
#include "fake_node.h"
#include "node-agent/act.h"

static struct observed node;
static struct plan plan;

struct bench {
    char root[64];
    struct host host;
    struct loop *loop;
    struct workers *workers;
    size_t n_done, n_device_calls;
    bool done;
    struct act_device results[4];
    char released[BDF_SIZE];
    struct act *act;
    bool stop_at_reset;
    int64_t ahead_ms; /* of the clock: deadlines pass without waiting for them */
};

static int64_t now_ms(void *arg)
{
    const struct bench *b = arg;
    struct timespec ts;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    return b->ahead_ms + (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_released(void *arg, const char *bdf)
{
    struct bench *b = arg;
    (void)snprintf(b->released, sizeof b->released, "%s", bdf);
}

static int setup(void **state)
{
    struct bench *b = xcalloc(1, sizeof *b);
    struct err err = ERR_INIT;
    (void)snprintf(b->root, sizeof b->root, "/tmp/ccnode-act-XXXXXX");
    assert_non_null(mkdtemp(b->root));
    assert_int_equal(host_open(&b->host, b->root, &err), 0);
    b->loop = loop_new(now_ms, b);
    AUTO_FREE char *program = xasprintf("%s/tests/unit/agent/fake-device",
                                        getenv("CCNODE_SOURCE") ? getenv("CCNODE_SOURCE") : ".");
    struct workers_options options = {
        .program = program, .lock_dir = "/lock", .on_released = on_released, .arg = b};
    b->workers = workers_new(&b->host, b->loop, &options, &err);
    assert_non_null(b->workers);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    /* a worker that still ends writes its last line below the root */
    for (int i = 0; i < 200 && workers_running(b->workers) > 0; i++)
        loop_run_once(b->loop, 50);
    workers_free(b->workers);
    loop_free(b->loop);
    host_close(&b->host);
    AUTO_FREE char *command = xasprintf("rm -rf %s", b->root);
    assert_int_equal(system(command), 0); /* NOLINT: our own path */
    free(b);
    return 0;
}

static void answer(struct bench *b, const char *bdf, const char *step, const char *text)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *name = xasprintf("%s.%s", bdf, step);
    AUTO_FREE char *line = xasprintf("%s\n", text);
    assert_int_equal(fs_replace(&b->host, "/", name, line, strlen(line), 0600, false, &err), 0);
}

static char *read_log(struct bench *b)
{
    struct err err = ERR_INIT;
    char *text = NULL;
    assert_int_equal(fs_read(&b->host, "/log", 65536, &text, NULL, &err), 0);
    return text;
}

static void on_done(void *arg, const struct act_device *results, size_t n)
{
    struct bench *b = arg;
    b->n_done++;
    b->done = true;
    for (size_t i = 0; i < n && i < ARRAY_LEN(b->results); i++)
        b->results[i] = results[i];
}

static void on_device(void *arg, size_t device, const struct act_device *result)
{
    struct bench *b = arg;
    (void)device;
    (void)result;
    b->n_device_calls++;
}

static void on_step(void *arg, size_t device, const struct plan_step *step,
                    const struct worker_answer *a)
{
    struct bench *b = arg;
    (void)device;
    if (b->stop_at_reset && !a && step->step == WORKER_RESET)
        act_stop(b->act);
}

static void run(struct bench *b)
{
    struct act_callbacks callbacks = {
        .on_step = on_step, .on_device = on_device, .on_done = on_done, .arg = b};
    b->act = act_start(b->workers, b->loop, &plan, &node, &callbacks);
    assert_false(b->done); /* never from inside */
    for (int i = 0; i < 2000 && !b->done; i++)
        loop_run_once(b->loop, 100);
    assert_int_equal(b->n_done, 1);
    for (int i = 0; i < 200 && workers_running(b->workers) > 0; i++)
        loop_run_once(b->loop, 50);
}

static void add(struct device_plan *d, enum worker_step step, const char *argument)
{
    struct plan_step *s = &d->steps[d->n_steps++];
    *s = (struct plan_step){.step = step};
    (void)snprintf(s->argument, sizeof s->argument, "%s", argument);
}

static void undo(struct device_plan *d, enum worker_step step, const char *argument)
{
    struct plan_step *s = &d->undo[d->n_undo++];
    *s = (struct plan_step){.step = step};
    (void)snprintf(s->argument, sizeof s->argument, "%s", argument);
}

/* The chain of a change on @n devices. */
static void make(size_t n, bool together)
{
    make_node(&node, n, 0);
    plan = (struct plan){.n = n, .together = together, .changes = true};
    for (size_t i = 0; i < n; i++) {
        struct device_plan *d = &plan.devices[i];
        add(d, WORKER_UNBIND, "");
        add(d, WORKER_STAGE, "on");
        add(d, WORKER_RESET, "");
        d->steps[2].barrier = together;
        d->steps[2].point_of_no_return = true;
        add(d, WORKER_VERIFY, "on");
        add(d, WORKER_BIND, "auto");
        undo(d, WORKER_STAGE, "off");
        undo(d, WORKER_BIND, "vfio-pci");
    }
}

static size_t place(const char *log, const char *line)
{
    const char *at = strstr(log, line);
    if (!at)
        print_error("no \"%s\" in:\n%s", line, log);
    assert_non_null(at);
    return (size_t)(at - log);
}

#define A "0000:10:00.0"
#define B "0000:11:00.0"
#define REFUSAL(step)                                                                              \
    "{\"step\":\"" step "\",\"ok\":false,\"ms\":3,\"code\":\"EREMOTEIO\","                         \
    "\"error\":\"knob 45 refused\",\"cure\":\"update it\"}"

static void all_steps_in_order_on_all_devices(void **state)
{
    struct bench *b = *state;
    make(2, false);
    run(b);
    AUTO_FREE char *log = read_log(b);
    assert_true(place(log, A " unbind\n") < place(log, A " stage on\n"));
    assert_true(place(log, A " stage on\n") < place(log, A " reset\n"));
    assert_true(place(log, B " verify on\n") < place(log, B " bind auto\n"));
    (void)place(log, A " end\n");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(b->results[i].result, ACT_DONE);
        assert_int_equal(b->results[i].verified, CC_MODE_ON);
        assert_string_equal(b->results[i].was_driver, "nvidia");
    }
    assert_int_equal(b->n_device_calls, 2);
}

static void a_query_brings_its_report(void **state)
{
    struct bench *b = *state;
    make_node(&node, 1, 0);
    plan = (struct plan){.n = 1};
    add(&plan.devices[0], WORKER_QUERY, "");
    run(b);
    assert_true(b->results[0].report_valid);
    assert_int_equal(b->results[0].report.active, CC_MODE_OFF);
    assert_int_equal(b->results[0].report.pending, CC_MODE_ON);
    assert_int_equal(b->results[0].report.capable_modes,
                     CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_ON));
}

static void a_failure_before_the_reset_is_put_back(void **state)
{
    struct bench *b = *state;
    make(2, false);
    answer(b, A, "stage", REFUSAL("stage"));
    /* the undo stages again and fails again: bind still must not be skipped silently, the first cause is told */
    run(b);
    AUTO_FREE char *log = read_log(b);
    (void)place(log, A " stage off\n");
    assert_null(strstr(log, A " reset"));
    assert_int_equal(b->results[0].result, ACT_FAILED);
    assert_int_equal(b->results[0].failed_step, WORKER_STAGE);
    assert_string_equal(b->results[0].failed_code, "EREMOTEIO");
    assert_string_equal(b->results[0].error, "stage: knob 45 refused; update it");
    assert_false(b->results[0].undone || b->results[0].staged_back); /* that failed too */
    assert_int_equal(b->results[1].result, ACT_DONE);                /* on its own */
}

static void a_chain_without_undo_puts_nothing_back(void **state)
{
    struct bench *b = *state;
    make(2, false);
    plan.devices[0].n_undo = 0;
    plan.devices[1].undo[0] = plan.devices[1].undo[1]; /* its driver alone */
    plan.devices[1].n_undo = 1;
    answer(b, A, "unbind", REFUSAL("unbind"));
    answer(b, B, "unbind", REFUSAL("unbind"));
    run(b);
    assert_false(b->results[0].undone || b->results[0].staged_back);
    assert_true(b->results[1].undone && !b->results[1].staged_back);
}

static void a_failure_after_the_reset_is_not_undone(void **state)
{
    struct bench *b = *state;
    make(1, false);
    answer(b, A, "verify", REFUSAL("verify"));
    run(b);
    AUTO_FREE char *log = read_log(b);
    assert_null(strstr(log, A " stage off"));
    assert_int_equal(b->results[0].result, ACT_FAILED);
    assert_false(b->results[0].undone);
}

static void together_nobody_is_reset_before_all_are_staged(void **state)
{
    struct bench *b = *state;
    make(3, true);
    run(b);
    AUTO_FREE char *log = read_log(b);
    size_t first_reset = place(log, " reset\n");
    assert_true(place(log, A " stage on\n") < first_reset);
    assert_true(place(log, B " stage on\n") < first_reset);
    assert_true(place(log, "0000:12:00.0 stage on\n") < first_reset);
}

static void together_one_failure_puts_all_back(void **state)
{
    struct bench *b = *state;
    make(2, true);
    answer(b, B, "stage", REFUSAL("stage"));
    run(b);
    AUTO_FREE char *log = read_log(b);
    assert_null(strstr(log, "reset"));
    (void)place(log, A " stage off\n");
    (void)place(log, A " bind vfio-pci\n");
    assert_int_equal(b->results[0].result, ACT_UNDONE);
    assert_true(b->results[0].undone && b->results[0].staged_back);
    assert_int_equal(b->results[1].result, ACT_FAILED);
}

static void a_worker_that_dies_or_babbles_is_a_failure(void **state)
{
    static const char *const bad[] = {"die",
                                      "long",
                                      "half",
                                      "no json",
                                      "[1]",
                                      "{\"step\":\"unbind\",\"ok\":true} x",
                                      "{\"ok\":true}",
                                      "{\"step\":\"bind\",\"ok\":true}", /* stale: to another */
                                      "{\"step\":\"unbind\",\"ok\":\"true\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct bench *b = *state;
        make(1, false);
        answer(b, A, "unbind", bad[i]);
        b->n_done = 0;
        b->done = false;
        run(b);
        assert_int_equal(b->results[0].result, ACT_FAILED);
        assert_int_equal(b->results[0].failed_step, WORKER_UNBIND);
    }
}

static void wait_for_step(struct bench *b, const char *line)
{
    struct err err = ERR_INIT;
    char *text = NULL;
    for (int i = 0; i < 2000; i++) {
        loop_run_once(b->loop, 10);
        bool there = fs_read(&b->host, "/log", 65536, &text, NULL, &err) == 0 && strstr(text, line);
        free(text);
        text = NULL;
        if (there)
            return;
    }
    fail_msg("no \"%s\"", line);
}

static void a_worker_that_is_late_is_abandoned_until_it_ends(void **state)
{
    struct bench *b = *state;
    struct err err = ERR_INIT;
    int pid = 0;
    make(2, false);
    answer(b, A, "reset", "hang");
    struct act_callbacks callbacks = {.on_device = on_device, .on_done = on_done, .arg = b};
    b->act = act_start(b->workers, b->loop, &plan, &node, &callbacks);
    wait_for_step(b, A " reset\n");
    wait_for_step(b, B " end\n");
    assert_false(workers_is_quarantined(b->workers, A, NULL));
    b->ahead_ms = worker_deadline_ms(WORKER_RESET);
    for (int i = 0; i < 200 && !b->done; i++)
        loop_run_once(b->loop, 10);
    assert_int_equal(b->results[0].result, ACT_FAILED);
    assert_string_equal(b->results[0].failed_code, "ETIMEDOUT");
    assert_int_equal(b->results[1].result, ACT_DONE);

    assert_true(workers_is_quarantined(b->workers, A, &pid));
    assert_false(workers_is_quarantined(b->workers, B, NULL));
    AUTO_FREE char *named = xasprintf("(pid %d) is stuck in the kernel", pid);
    assert_non_null(strstr(b->results[0].error, named));
    assert_null(worker_open(b->workers, A, &err)); /* no second one beside it */
    assert_string_equal(b->released, "");

    assert_int_equal(kill(pid, SIGKILL), 0); /* as the kernel lets go of it at last */
    for (int i = 0; i < 200 && !*b->released; i++)
        loop_run_once(b->loop, 50);
    assert_string_equal(b->released, A);
    assert_false(workers_is_quarantined(b->workers, A, NULL));
    struct worker *worker = worker_open(b->workers, A, &err);
    assert_non_null(worker);
    worker_close(worker);
}

static void stopping_ends_after_the_running_step(void **state)
{
    struct bench *b = *state;
    make(1, false);
    b->stop_at_reset = true;
    run(b);
    AUTO_FREE char *log = read_log(b);
    (void)place(log, A " reset\n");
    (void)place(log, A " end\n"); /* end of input, no signal */
    assert_null(strstr(log, "verify"));
    assert_int_equal(b->results[0].result, ACT_STOPPED);
}

static void a_program_that_is_missing_is_told_for_each_device(void **state)
{
    struct bench *b = *state;
    struct err err = ERR_INIT;
    workers_free(b->workers);
    struct workers_options options = {.program = "/nonexistent/ccnode-device"};
    b->workers = workers_new(&b->host, b->loop, &options, &err);
    make(2, true);
    run(b);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(b->results[i].result, ACT_FAILED);
        assert_non_null(strstr(b->results[i].error, "/nonexistent/ccnode-device"));
    }
    assert_int_equal(b->n_device_calls, 2);
}

static void the_module_is_loaded_first(void **state)
{
    struct bench *b = *state;
    make(1, false);
    plan.load_vfio = true;
    (void)snprintf(plan.vfio_module, sizeof plan.vfio_module, "vfio-pci");
    run(b);
    AUTO_FREE char *log = read_log(b);
    assert_true(place(log, "node load-module vfio-pci\n") < place(log, A " unbind\n"));
}

static void abandoning_forgets_everything(void **state)
{
    struct bench *b = *state;
    make(2, false);
    struct act_callbacks callbacks = {.on_done = on_done, .arg = b};
    struct act *act = act_start(b->workers, b->loop, &plan, &node, &callbacks);
    loop_run_once(b->loop, 10);
    act_abandon(act);
    for (int i = 0; i < 200 && workers_running(b->workers) > 0; i++)
        loop_run_once(b->loop, 50);
    assert_int_equal(workers_running(b->workers), 0);
    assert_int_equal(b->n_done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_steps_in_order_on_all_devices, setup, teardown),
        cmocka_unit_test_setup_teardown(a_query_brings_its_report, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_before_the_reset_is_put_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_chain_without_undo_puts_nothing_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_after_the_reset_is_not_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(together_nobody_is_reset_before_all_are_staged, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(together_one_failure_puts_all_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_worker_that_dies_or_babbles_is_a_failure, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_worker_that_is_late_is_abandoned_until_it_ends, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(stopping_ends_after_the_running_step, setup, teardown),
        cmocka_unit_test_setup_teardown(a_program_that_is_missing_is_told_for_each_device, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_module_is_loaded_first, setup, teardown),
        cmocka_unit_test_setup_teardown(abandoning_forgets_everything, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
