/* Register sets: what each kind has, what nobody has, when nothing answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client.h"

static uint32_t reg(struct bench *b, int hw, uint64_t at)
{
    return model_bar_read(b->m, hw, 0, at);
}

static void identification(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(reg(&b, b.h100, 0), 0x180000a1);
    assert_int_equal(reg(&b, b.b200, 0), 0x1a0000a1);
    assert_int_equal(reg(&b, b.gb202, 0), 0x1b2000a1);
    assert_int_equal(reg(&b, b.ls10, 0), 0x007000a1);
    assert_int_equal(reg(&b, b.a100, 0), 0x170000a1);
    bench_free(&b);
}

static void unknown_registers_are_counted(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(reg(&b, b.h100, 0x590), 0xbadf5040); /* Blackwell's */
    assert_int_equal(reg(&b, b.b200, 0x1182cc), 0xbadf5040);
    assert_int_equal(reg(&b, b.gb202, 0x200bc), 0xbadf5040);
    assert_int_equal(reg(&b, b.ls10, 0x8f2c08), 0xbadf5040); /* channel 1 is Hopper's */
    model_bar_write(b.m, b.h100, 0, 0x1182cc, 1);            /* read-only */
    struct model_counters c = model_counters(b.m, b.h100);
    assert_int_equal(c.unknown, 2);
    assert_int_equal(c.last_unknown, 0x1182cc);
    assert_int_equal(reg(&b, b.h100, 0x1182cc), 0);
    bench_free(&b);
}

static void outside_the_bar_and_other_bars(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(reg(&b, b.h100, 16 << 20), MODEL_ONES);
    assert_int_equal(reg(&b, b.h100, 2), MODEL_ONES);
    assert_int_equal(model_bar_read(b.m, b.h100, 2, 0x1000), 0);
    assert_int_equal(model_bar_read(b.m, b.h100, 1, 0), MODEL_ONES);
    assert_int_equal(model_bar_read(b.m, b.h100, 6, 0), MODEL_ONES);
    assert_int_equal(model_bar_read(b.m, b.h100, -1, 0), MODEL_ONES);
    assert_int_equal(model_counters(b.m, b.h100).unknown, 0);
    bench_free(&b);
}

static void nothing_answers_asleep_or_switched_off(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_set_power(b.m, b.h100, MODEL_D3HOT);
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 4), 0x233110de);
    assert_int_equal(model_config_read(b.m, b.h100, 0x44, 2) & 3, 3);
    (void)model_config_write(b.m, b.h100, 0x44, 2, 0);
    assert_int_equal(reg(&b, b.h100, 0), 0x180000a1);
    (void)model_config_write(b.m, b.h100, 0x44, 2, 3);
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES);
    model_set_power(b.m, b.h100, MODEL_D3COLD);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 4), MODEL_ONES);
    model_set_power(b.m, b.h100, MODEL_D0);
    (void)model_config_write(b.m, b.h100, 4, 2, 0);
    model_bar_write(b.m, b.h100, 0, 0x1458, 7);
    assert_int_equal(reg(&b, b.h100, 0x1458), MODEL_ONES);
    (void)model_config_write(b.m, b.h100, 4, 2, 2);
    assert_int_equal(reg(&b, b.h100, 0x1458), 0); /* the write was lost */
    bench_free(&b);
}

static void dead_in_every_way(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_fault_set(b.m, b.h100, MODEL_FAULT_DEAD, 1);
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 2), 0xffff);
    assert_true(model_dead(b.m, b.h100));
    model_fault_set(b.m, b.h100, MODEL_FAULT_DEAD, 0);
    model_fault_set(b.m, b.port, MODEL_FAULT_DEAD, 1); /* a dead bridge takes it along */
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES);
    model_fault_set(b.m, b.port, MODEL_FAULT_DEAD, 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_MMIO_DEAD, 1);
    assert_int_equal(reg(&b, b.h100, 0), MODEL_ONES);
    assert_int_equal(model_config_read(b.m, b.h100, 0, 2), 0x10de);
    model_fault_set(b.m, b.h100, MODEL_FAULT_MMIO_DEAD, 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_PRIV_ERROR, 1);
    assert_int_equal(reg(&b, b.h100, 0) >> 16, 0xbadf);
    model_fault_set(b.m, b.h100, MODEL_FAULT_PRIV_ERROR, 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_SECURITY, 0x105);
    assert_int_equal(reg(&b, b.h100, 0), 0xbadf0200);
    assert_int_equal(model_config_read(b.m, b.h100, 0x2b4, 4), 0x105);
    model_fault_set(b.m, b.b200, MODEL_FAULT_SECURITY, 0x40000000);
    assert_int_equal(model_config_read(b.m, b.b200, 0xb04, 4), 0x40000000);
    model_plug(b.m, b.ls10, false);
    assert_int_equal(reg(&b, b.ls10, 0), MODEL_ONES);
    bench_free(&b);
}

static void recovery_mode(void **state)
{
    (void)state;
    struct bench b = bench_new();
    int all[] = {b.h100, b.b200, b.ls10};
    for (int i = 0; i < 3; i++)
        model_fault_set(b.m, all[i], MODEL_FAULT_RECOVERY, 1);
    assert_int_equal(reg(&b, b.h100, 0), 0);
    assert_int_equal(reg(&b, b.h100, 0x20120), 1u << 30);
    assert_int_equal(reg(&b, b.b200, 0x8aa128) & 0xff, 2);
    assert_int_equal(reg(&b, b.ls10, 0x66120), 1u << 30);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identification),
        cmocka_unit_test(unknown_registers_are_counted),
        cmocka_unit_test(outside_the_bar_and_other_bars),
        cmocka_unit_test(nothing_answers_asleep_or_switched_off),
        cmocka_unit_test(dead_in_every_way),
        cmocka_unit_test(recovery_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
