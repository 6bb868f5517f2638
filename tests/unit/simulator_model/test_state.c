/* The shared file: sharing, a killed lock owner, wrong files, names, trace, kill counter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "simulator/model/state.h"

static char dir[] = "/tmp/ccnode-model-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/state", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static void two_processes_see_one_device(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct model *a = NULL, *b = NULL;
    assert_int_equal(model_create(path, &a, &err), 0);
    int hw = add(a, "0000:18:00.0", 0x2331, 0x030200, -1);
    assert_int_equal(model_open(path, &b, &err), 0);
    assert_int_equal(model_count(b), 1);
    assert_int_equal(model_find(b, "0000:18:00.0"), hw);
    assert_int_equal(model_find(b, "0000:18:00.1"), -1);
    model_bar_write(a, hw, 0, 0x1458, 42);
    assert_int_equal(model_bar_read(b, hw, 0, 0x1458), 42);
    model_close(a);
    model_close(b);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct model *m = NULL;
    char other[80];
    (void)snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(model_open(other, &m, &err), -ENOENT);
    int fd = open(other, O_RDWR | O_CREAT, 0600);
    assert_int_equal(model_open(other, &m, &err), -EBADMSG);
    assert_int_equal(ftruncate(fd, (off_t)sizeof(struct state)), 0);
    assert_int_equal(model_open(other, &m, &err), -EBADMSG);
    (void)close(fd);
    (void)unlink(other);
    assert_null(m);
}

static void a_killed_owner_does_not_block(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct model *m = NULL;
    assert_int_equal(model_create(path, &m, &err), 0);
    int hw = add(m, "0000:18:00.0", 0x2331, 0x030200, -1);
    pid_t child = fork();
    if (child == 0) {
        lock(m);
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_not_equal(m->s->lock_owner, 0);
    assert_int_equal(model_bar_read(m, hw, 0, 0), 0x180000a1);
    model_close(m);
}

/* data ports only work if no access is lost or doubled */
static void accesses_of_many_processes_are_all_seen(void **state)
{
    (void)state;
    enum { PROCESSES = 4, ACCESSES = 2000 };
    struct err err = ERR_INIT;
    struct model *m = NULL;
    assert_int_equal(model_create(path, &m, &err), 0);
    int hw = add(m, "0000:18:00.0", 0x2331, 0x030200, -1);
    for (int p = 0; p < PROCESSES; p++)
        if (fork() == 0) {
            for (int i = 0; i < ACCESSES; i++)
                (void)model_bar_read(m, hw, 0, 0x8f2ad4);
            _exit(0);
        }
    for (int p = 0; p < PROCESSES; p++)
        (void)wait(NULL);
    assert_int_equal(model_counters(m, hw).reads, PROCESSES * ACCESSES);
    model_close(m);
}

static void every_fault_and_delay_has_a_name(void **state)
{
    (void)state;
    for (int f = 0; f < MODEL_FAULTS; f++) {
        assert_non_null(model_fault_name(f));
        assert_non_null(model_fault_help(f));
        assert_int_equal(model_fault_by_name(model_fault_name(f)), f);
    }
    assert_null(model_fault_name(MODEL_FAULTS));
    assert_null(model_fault_name(-1));
    assert_int_equal(model_fault_by_name("no-such-fault"), -1);
    for (int d = 0; d < MODEL_DELAYS; d++)
        assert_non_null(model_delay_name(d));
    assert_null(model_delay_name(MODEL_DELAYS));
    for (int mode = MODEL_MODE_OFF; mode <= MODEL_MODE_PPCIE; mode++)
        assert_string_not_equal(model_mode_name((enum model_mode)mode), "?");
}

static void the_trace_tells_what_happened(void **state)
{
    (void)state;
    struct bench b = bench_new();
    struct model_access seen[8];
    uint64_t cursor = 0;
    (void)model_bar_read(b.m, b.h100, 0, 0);
    model_trace(b.m, true);
    (void)model_bar_read(b.m, b.h100, 0, 0);
    model_bar_write(b.m, b.h100, 0, 0x1458, 5);
    (void)model_config_write(b.m, b.h100, 4, 2, 6);
    model_reset(b.m, b.h100, MODEL_RESET_FLR);
    assert_int_equal(model_trace_read(b.m, &cursor, seen, 8), 4);
    assert_int_equal(seen[0].op, 'R');
    assert_int_equal(seen[0].value, 0x180000a1);
    assert_int_equal(seen[1].op, 'W');
    assert_int_equal(seen[1].offset, 0x1458);
    assert_int_equal(seen[2].op, 'w');
    assert_int_equal(seen[3].op, 'X');
    assert_int_equal(seen[3].hw, b.h100);
    assert_int_equal(model_trace_read(b.m, &cursor, seen, 8), 0);
    for (int i = 0; i < 70000; i++)
        (void)model_bar_read(b.m, b.h100, 0, 0);
    assert_int_equal(model_trace_read(b.m, &cursor, seen, 8), -EOVERFLOW);
    assert_int_equal(model_trace_read(b.m, &cursor, seen, 8), 8);
    bench_free(&b);
}

static void events_tell_resets_and_modes(void **state)
{
    (void)state;
    struct bench b = bench_new();
    struct model_event e[8];
    uint64_t cursor = 0;
    assert_int_equal(model_set_knob(b.m, b.h100, KNOB_CCM, 1), 0);
    assert_int_equal(model_set_knob(b.m, b.h100, KNOB_CCM, 1), 0);
    model_reset(b.m, b.h100, MODEL_RESET_FLR);
    assert_int_equal(model_events_read(b.m, &cursor, e, 8), 2);
    assert_false(e[0].reset);
    assert_int_equal(e[0].active, MODEL_MODE_OFF);
    assert_int_equal(e[0].pending, MODEL_MODE_ON);
    assert_true(e[1].reset);
    assert_int_equal(e[1].number, 2);
    assert_int_equal(e[1].active, MODEL_MODE_ON);
    assert_true(e[1].booted_ns >= e[1].time_ns);
    for (int i = 0; i < 3000; i++)
        model_reset(b.m, b.h100, MODEL_RESET_FLR);
    cursor = 5;
    assert_int_equal(model_events_read(b.m, &cursor, e, 8), 8);
    assert_int_equal(e[0].number, 3002 - 2048 + 1);
    bench_free(&b);
}

static void the_kill_counter_strikes_once(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(model_kill_due(b.m), MODEL_KILL_NONE);
    model_kill_at(b.m, 3, MODEL_KILL_PARENT);
    assert_int_equal(model_kill_due(b.m), MODEL_KILL_NONE);
    assert_int_equal(model_kill_due(b.m), MODEL_KILL_NONE);
    assert_int_equal(model_kill_due(b.m), MODEL_KILL_PARENT);
    assert_int_equal(model_kill_due(b.m), MODEL_KILL_NONE);
    bench_free(&b);
}

static void a_full_node_refuses_more(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench b = bench_new();
    struct model_desc d = {.bdf = "0000:01:00.0",
                           .vendor_id = 0x10de,
                           .device_id = 0x2331,
                           .class_code = 0x030200,
                           .parent = b.h100};
    assert_int_equal(model_add(b.m, &d, &err), -EINVAL); /* not below a bridge */
    d.parent = -1;
    int r = 0;
    while ((r = model_add(b.m, &d, &err)) >= 0)
        assert_in_range(r, 0, MODEL_MAX_DEVICES - 1);
    assert_int_equal(r, -E2BIG);
    assert_int_equal(model_count(b.m), MODEL_MAX_DEVICES);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_processes_see_one_device),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(a_killed_owner_does_not_block),
        cmocka_unit_test(accesses_of_many_processes_are_all_seen),
        cmocka_unit_test(every_fault_and_delay_has_a_name),
        cmocka_unit_test(the_trace_tells_what_happened),
        cmocka_unit_test(events_tell_resets_and_modes),
        cmocka_unit_test(the_kill_counter_strikes_once),
        cmocka_unit_test(a_full_node_refuses_more),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
