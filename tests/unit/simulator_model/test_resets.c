/* Resets: what latches, what is cleared, how long it takes; users through VFIO; plugging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"

static uint32_t reg(struct bench *b, int hw, uint64_t at)
{
    return model_bar_read(b->m, hw, 0, at);
}

/* as Linux: save, reset, wait, restore */
static void reset(struct bench *b, int hw, int kind)
{
    struct model_saved saved;
    model_config_save(b->m, hw, &saved);
    model_reset(b->m, hw, kind);
    for (int i = 0; i < 1000 && !model_config_ready(b->m, hw); i++)
        ms(b->m, 1);
    model_config_restore(b->m, hw, &saved);
}

/* milliseconds from now until the register reads 0xff */
static int boot_time(struct bench *b, int hw, uint64_t at)
{
    for (int t = 0; t < 20000; t += 10) {
        if (reg(b, hw, at) == 0xff)
            return t;
        ms(b->m, 10);
    }
    return -1;
}

static void knobs_become_active_by_a_reset_only(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(knob_set(b.m, b.h100, 8, 1), 0);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0);
    assert_int_equal(model_active(b.m, b.h100), MODEL_MODE_OFF);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0); /* not before boot is complete */
    assert_int_not_equal(boot_time(&b, b.h100, 0x200bc), -1);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 1);
    assert_int_equal(model_active(b.m, b.h100), MODEL_MODE_ON);
    assert_int_equal(knob_get(b.m, b.h100, 8), 1); /* persistent */
    model_drift(b.m, b.h100, MODEL_MODE_PPCIE);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0x20);
    model_drift(b.m, b.h100, MODEL_MODE_DEVTOOLS);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 3);
    model_drift(b.m, b.ls10, MODEL_MODE_PPCIE);
    assert_int_equal(reg(&b, b.ls10, 0x28c50), 1);
    model_drift(b.m, b.b200, MODEL_MODE_ON);
    assert_int_equal(reg(&b, b.b200, 0x590), 1);
    assert_int_equal(model_set_knob(b.m, b.b200, 10, 2), 0);
    reset(&b, b.b200, MODEL_RESET_FLR);
    ms(b.m, 2000);
    assert_int_equal(reg(&b, b.b200, 0x590), 5);
    bench_free(&b);
}

static void boot_takes_its_time(void **state)
{
    (void)state;
    struct bench b = bench_new();
    struct {
        int hw;
        uint64_t flag;
        int low, high;
    } all[] = {{b.h100, 0x200bc, 1420, 1460},
               {b.b200, 0x200bc, 1620, 1660},
               {b.gb202, 0xad00bc, 920, 960},
               {b.ls10, 0x660bc, 1420, 1460}};
    for (int i = 0; i < 4; i++) {
        reset(&b, all[i].hw, MODEL_RESET_FLR);
        int t = boot_time(&b, all[i].hw, all[i].flag);
        assert_in_range(t, all[i].low, all[i].high);
    }
    model_drift(b.m, b.h100, MODEL_MODE_ON);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_in_range(boot_time(&b, b.h100, 0x200bc), 1620, 1660);
    model_set_scale(b.m, 0);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(boot_time(&b, b.h100, 0x200bc), 0);
    bench_free(&b);
}

static void the_firewall_hides_blackwell(void **state)
{
    (void)state;
    struct bench b = bench_new();
    reset(&b, b.b200, MODEL_RESET_FLR);
    assert_true(model_config_read(b.m, b.b200, 0xaf8, 4) & 1u << 20);
    assert_int_equal(reg(&b, b.b200, 0), MODEL_ONES);
    ms(b.m, 400);
    assert_int_equal(model_config_read(b.m, b.b200, 0xaf8, 4), 0);
    assert_int_equal(reg(&b, b.b200, 0), 0x1a0000a1);
    assert_int_equal(reg(&b, b.b200, 0x200bc), 0);
    model_fault_set(b.m, b.b200, MODEL_FAULT_FIREWALL_NEVER, 1);
    reset(&b, b.b200, MODEL_RESET_FLR);
    ms(b.m, 60000);
    assert_true(model_config_read(b.m, b.b200, 0xaf8, 4) & 1u << 20);
    model_fault_set(b.m, b.b200, MODEL_FAULT_FIREWALL_NEVER, 0);
    assert_int_equal(reg(&b, b.b200, 0), 0x1a0000a1);
    bench_free(&b);
}

static void scratch_markers(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_bar_write(b.m, b.h100, 0, 0x1458, 1);
    model_bar_write(b.m, b.h100, 0, 0x91288, 1);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(reg(&b, b.h100, 0x1458), 0);
    assert_int_equal(reg(&b, b.h100, 0x91288), 1);
    reset(&b, b.h100, MODEL_RESET_SBR);
    assert_int_equal(reg(&b, b.h100, 0x91288), 0);
    bench_free(&b);
}

static void an_fsp_that_boots_is_silent(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0008020c}, answer[16];
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(reg(&b, b.h100, 0x8f2c10), 0);
    assert_int_equal(reg(&b, b.h100, 0x8f2c94), 0);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 0); /* waits a second */
    ms(b.m, 1000);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 6);
    bench_free(&b);
}

static void faults_of_boot_and_reset(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_fault_set(b.m, b.h100, MODEL_FAULT_BOOT_NEVER, 1);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(boot_time(&b, b.h100, 0x200bc), -1);
    model_fault_set(b.m, b.h100, MODEL_FAULT_BOOT_NEVER, 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_BOOT_SLOW, 2000);
    model_fault_set(b.m, b.h100, MODEL_FAULT_BOOT_BADF, 1);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(reg(&b, b.h100, 0x200bc) >> 16, 0xbadf);
    assert_in_range(boot_time(&b, b.h100, 0x200bc), 3420, 3460);
    model_fault_set(b.m, b.h100, MODEL_FAULT_BOOT_SLOW, 0);
    assert_int_equal(model_set_knob(b.m, b.h100, 8, 1), 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_MODE_LOST, 1);
    reset(&b, b.h100, MODEL_RESET_FLR);
    ms(b.m, 3000);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_RESET_NOOP, 1);
    model_bar_write(b.m, b.h100, 0, 0x1458, 1);
    reset(&b, b.h100, MODEL_RESET_FLR);
    assert_int_equal(reg(&b, b.h100, 0x1458), 1);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_RESET_NOOP, 0);
    reset(&b, b.h100, MODEL_RESET_FLR);
    ms(b.m, 3000);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 1);
    model_fault_set(b.m, b.h100, MODEL_FAULT_RETRY_FOREVER, 1);
    model_reset(b.m, b.h100, MODEL_RESET_FLR);
    ms(b.m, 100000);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 4), 0xffff0001);
    assert_false(model_config_ready(b.m, b.h100));
    model_fault_set(b.m, b.h100, MODEL_FAULT_RETRY_FOREVER, 0);
    assert_true(model_config_ready(b.m, b.h100));
    bench_free(&b);
}

static void sbr_hits_everything_below_the_bridge(void **state)
{
    (void)state;
    struct bench b = bench_new();
    int audio = add(b.m, "0000:18:00.1", 0x22e8, 0x040300, b.port);
    model_reset(b.m, b.h100, MODEL_RESET_SBR);
    assert_int_equal(model_counters(b.m, b.h100).sbr, 1);
    assert_int_equal(model_counters(b.m, audio).sbr, 1);
    assert_int_equal(model_counters(b.m, b.b200).sbr, 0);
    model_reset(b.m, b.h100, MODEL_RESET_FLR);
    assert_int_equal(model_counters(b.m, audio).resets, 1);
    bench_free(&b);
}

static void vfio_opens_and_closes_with_a_reset(void **state)
{
    (void)state;
    struct bench b = bench_new();
    pid_t me = getpid();
    uint32_t before = model_map_generation(b.m, b.h100);
    assert_int_equal(model_set_knob(b.m, b.h100, 8, 1), 0);
    model_set_power(b.m, b.h100, MODEL_D3HOT);
    assert_int_equal(model_vfio_open(b.m, b.h100, me), 0);
    assert_int_equal(model_map_generation(b.m, b.h100), before);
    assert_false(model_vfio_claimed(b.m, b.h100));
    model_vfio_claim(b.m, b.h100); /* the first use of a BAR takes it away from others */
    assert_int_not_equal(model_map_generation(b.m, b.h100), before);
    assert_true(model_vfio_claimed(b.m, b.h100));
    assert_int_equal(model_vfio_open(b.m, b.h100, me), 0); /* a second one: no reset */
    assert_int_equal(model_vfio_opens(b.m, b.h100), 2);
    assert_int_equal(model_counters(b.m, b.h100).flr, 1);
    ms(b.m, 100);
    assert_int_equal(reg(&b, b.h100, 0), 0x180000a1); /* awake, BARs and memory are back */
    ms(b.m, 2000);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 1); /* opening made the staged mode active */
    model_vfio_close(b.m, b.h100, me);
    assert_int_equal(model_counters(b.m, b.h100).flr, 1);
    model_vfio_close(b.m, b.h100, me);
    assert_int_equal(model_counters(b.m, b.h100).flr, 2);
    assert_int_equal(model_vfio_opens(b.m, b.h100), 0);
    ms(b.m, 2000);
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES); /* asleep as before */
    model_set_power(b.m, b.h100, MODEL_D0);
    assert_int_equal(reg(&b, b.h100, 0), 0x180000a1);
    bench_free(&b);
}

static void a_killed_user_is_gone_even_as_a_zombie(void **state)
{
    (void)state;
    struct bench b = bench_new();
    pid_t child = fork();
    if (child == 0) {
        (void)pause();
        _exit(0);
    }
    assert_int_equal(model_vfio_open(b.m, b.h100, child), 0);
    assert_int_equal(model_vfio_opens(b.m, b.h100), 1);
    (void)kill(child, SIGKILL);
    int n = 1;
    for (int i = 0; i < 1000 && n; i++) {
        (void)usleep(1000);
        n = model_vfio_opens(b.m, b.h100);
    }
    assert_int_equal(n, 0);
    assert_int_equal(model_counters(b.m, b.h100).flr, 2);
    (void)waitpid(child, NULL, 0);
    bench_free(&b);
}

static void a_plugged_device_starts_afresh(void **state)
{
    (void)state;
    struct bench b = bench_new();
    struct model_bar bar = model_bar(b.m, b.h100, 2);
    assert_int_equal(model_set_knob(b.m, b.h100, 8, 1), 0);
    model_plug(b.m, b.h100, false);
    model_plug(b.m, b.h100, true);
    ms(b.m, 100);
    assert_int_equal(model_config_read(b.m, b.h100, 4, 2), 0); /* as hot plug leaves it */
    assert_int_equal(model_config_read(b.m, b.h100, 0x1c, 4), bar.base >> 32);
    (void)model_config_write(b.m, b.h100, 4, 2, 2);
    ms(b.m, 2000);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 1);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knobs_become_active_by_a_reset_only),
        cmocka_unit_test(boot_takes_its_time),
        cmocka_unit_test(the_firewall_hides_blackwell),
        cmocka_unit_test(scratch_markers),
        cmocka_unit_test(an_fsp_that_boots_is_silent),
        cmocka_unit_test(faults_of_boot_and_reset),
        cmocka_unit_test(sbr_hits_everything_below_the_bridge),
        cmocka_unit_test(vfio_opens_and_closes_with_a_reset),
        cmocka_unit_test(a_killed_user_is_gone_even_as_a_zombie),
        cmocka_unit_test(a_plugged_device_starts_afresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
