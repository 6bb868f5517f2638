/* The FSP over both transports: knobs, permissions, errors, and every fault of an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "client.h"

static void knobs_are_read_and_written_on_every_transport(void **state)
{
    (void)state;
    struct bench b = bench_new();
    int gpus[] = {b.h100, b.b200, b.gb202, b.ls10};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(knob_get(b.m, gpus[i], 8), 0);
        assert_int_equal(knob_set(b.m, gpus[i], 8, 1), 0);
        assert_int_equal(knob_get(b.m, gpus[i], 8), 1);
        assert_int_equal(model_knob(b.m, gpus[i], 8), 1);
        assert_int_equal(knob_get(b.m, gpus[i], 48), -0x1e3);
        assert_int_equal(knob_get(b.m, gpus[i], 0), -0x1e3);
        assert_int_equal(model_counters(b.m, gpus[i]).unknown, 0);
        assert_int_equal(model_counters(b.m, gpus[i]).rpcs, 5);
    }
    /* only Hopper and LS10 know PPCIe */
    assert_int_equal(knob_get(b.m, b.h100, 45), 0);
    assert_int_equal(knob_get(b.m, b.ls10, 45), 0);
    assert_int_equal(knob_get(b.m, b.b200, 45), -0x1e3);
    bench_free(&b);
}

static void the_answer_is_the_documented_one(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0007020c}, answer[16];
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 6);
    uint32_t wanted[] = {0xc0000000, 0x1510de7e, 3, 0x13, 0};
    assert_memory_equal(answer, wanted, sizeof wanted);
    assert_int_equal(answer[5] & 0xffff, 1);
    assert_int_not_equal(answer[5] >> 16, 0); /* garbage for those who don't mask */
    /* taken: head = tail; answer at the base of the channel */
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c10), 0x808);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c14), 0x808);
    bench_free(&b);
}

static void permission_knobs_guard_their_partners(void **state)
{
    (void)state;
    struct bench b = bench_new();
    assert_int_equal(knob_set(b.m, b.h100, 7, 0),
                     -0x1e5); /* a permission itself is never in-band */
    assert_int_equal(model_set_knob(b.m, b.h100, 7, 0), 0);
    assert_int_equal(knob_set(b.m, b.h100, 8, 1), -0x1e5);
    assert_int_equal(knob_get(b.m, b.h100, 8), 0);
    model_fault_set(b.m, b.ls10, MODEL_FAULT_INBAND_OFF, 44);
    assert_int_equal(knob_set(b.m, b.ls10, 45, 1), -0x1e5);
    assert_int_equal(knob_set(b.m, b.ls10, 8, 1), 0);
    model_fault_set(b.m, b.ls10, MODEL_FAULT_INBAND_OFF, 1);
    assert_int_equal(knob_get(b.m, b.ls10, 7), 0);
    assert_int_equal(knob_set(b.m, b.ls10, 8, 0), -0x1e5);
    bench_free(&b);
}

static void a_message_in_several_packets_is_answered_once(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t first[] = {0x80000000, 0x1310de7e, 0x0008020d}, last[] = {0x50000000, 1}, answer[16];
    uint32_t late[] = {0x70000000, 1};
    assert_int_equal(emem_call(b.m, b.h100, 2, first, 3, answer), 0);
    assert_int_equal(emem_call(b.m, b.h100, 2, last, 2, answer), 5);
    assert_int_equal(answer[4], 0);
    assert_int_equal(model_knob(b.m, b.h100, 8), 1);
    assert_int_equal(emem_call(b.m, b.h100, 2, first, 3, answer), 0);
    assert_int_equal(emem_call(b.m, b.h100, 2, late, 2, answer), 0); /* a packet is missing */
    bench_free(&b);
}

static void emem_ports_count_and_wrap(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_bar_write(b.m, b.h100, 0, 0x8f2ad0, 0x03000800);
    model_bar_write(b.m, b.h100, 0, 0x8f2ad4, 0x11111111);
    model_bar_write(b.m, b.h100, 0, 0x8f2ad4, 0x22222222);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2ad0), 0x03000808);
    model_bar_write(b.m, b.h100, 0, 0x8f2ad0, 0x00000804); /* no increment; low bits don't exist */
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2ad4), 0x22222222);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2ad4), 0x22222222);
    /* two ports, one memory */
    model_bar_write(b.m, b.h100, 0, 0x8f2ac8, 0x02000800);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2acc), 0x11111111);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2acc), 0x22222222);
    bench_free(&b);
}

static void nonsense_packets_get_no_answer(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t answer[16], words[] = {0xc0000000, 0x1310de7e, 0x000802ff};
    model_bar_write(b.m, b.h100, 0, 0x8f2c14, 0x100);
    model_bar_write(b.m, b.h100, 0, 0x8f2c10, 0x800); /* tail before head */
    ms(b.m, 1000);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c10), 0x800);
    model_bar_write(b.m, b.h100, 0, 0x8f2c14, 0x1800); /* too long */
    model_bar_write(b.m, b.h100, 0, 0x8f2c10, 0x800);
    ms(b.m, 1000);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c10), 0x800);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 5); /* unknown sub-message */
    assert_int_equal(answer[4], 6);
    bench_free(&b);
}

static void faults_of_one_command(void **state)
{
    (void)state;
    struct bench b = bench_new();
    int gpus[] = {b.h100, b.b200};
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0008020c}, answer[16];
    for (int i = 0; i < 2; i++) {
        int gpu = gpus[i];
        int (*call)(struct model *, int, const uint32_t *, int, uint32_t *) = mnoc_call;
        model_fault_set(b.m, gpu, MODEL_FAULT_FSP_ERROR, 0x202);
        assert_int_equal(knob_get(b.m, gpu, 8), -0x202);
        assert_int_equal(knob_get(b.m, gpu, 8), 0); /* once */
        model_fault_set(b.m, gpu, MODEL_FAULT_FSP_ERROR_ALWAYS, 0x9e);
        assert_int_equal(knob_get(b.m, gpu, 8), -0x9e);
        assert_int_equal(knob_get(b.m, gpu, 8), -0x9e);
        model_fault_set(b.m, gpu, MODEL_FAULT_FSP_ERROR_ALWAYS, 0);
        model_fault_set(b.m, gpu, MODEL_FAULT_WRITE_LOST, 1);
        assert_int_equal(knob_set(b.m, gpu, 8, 1), 0);
        assert_int_equal(knob_get(b.m, gpu, 8), 0);
        if (gpu != b.b200)
            continue;
        model_fault_set(b.m, gpu, MODEL_FAULT_SHORT_ANSWER, 1);
        assert_int_equal(call(b.m, gpu, words, 3, answer), 4);
        model_fault_set(b.m, gpu, MODEL_FAULT_WRONG_TYPE, 1);
        assert_int_equal(call(b.m, gpu, words, 3, answer), 6);
        assert_int_not_equal(answer[1] >> 24, 0x15);
        model_fault_set(b.m, gpu, MODEL_FAULT_WRONG_ECHO, 1);
        assert_int_equal(call(b.m, gpu, words, 3, answer), 6);
        assert_int_not_equal(answer[3], 0x13);
    }
    bench_free(&b);
}

static void a_mute_fsp_takes_nothing(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0008020c}, answer[16];
    model_fault_set(b.m, b.h100, MODEL_FAULT_FSP_MUTE, 1);
    model_fault_set(b.m, b.b200, MODEL_FAULT_FSP_MUTE, 1);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 0);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c10), 0x800); /* never consumed */
    assert_int_equal(mnoc_call(b.m, b.b200, words, 3, answer), 0);
    model_fault_set(b.m, b.h100, MODEL_FAULT_FSP_MUTE, 0);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 6);
    bench_free(&b);
}

static void slow_answers_come_when_due(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_fault_set(b.m, b.h100, MODEL_FAULT_FSP_SLOW, 100);
    int64_t before = model_now_ns(b.m);
    assert_int_equal(knob_get(b.m, b.h100, 8), 0);
    int64_t took = (model_now_ns(b.m) - before) / 1000000;
    assert_in_range(took, 102, 140);
    bench_free(&b);
}

static void stale_and_torn_queues(void **state)
{
    (void)state;
    struct bench b = bench_new();
    model_fault_set(b.m, b.h100, MODEL_FAULT_STALE_ANSWER, 1);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c90), 0x800);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c94), 0x814);
    model_fault_set(b.m, b.b200, MODEL_FAULT_STALE_ANSWER, 1);
    assert_int_equal(model_bar_read(b.m, b.b200, 0, 0x8f1f04), 1u << 24 | 24);
    model_fault_set(b.m, b.ls10, MODEL_FAULT_STALE_COMMAND, 1);
    assert_int_equal(model_bar_read(b.m, b.ls10, 0, 0x8f2c10), 0x800);
    assert_int_equal(model_bar_read(b.m, b.ls10, 0, 0x8f2c14), 0x808);
    model_bar_write(b.m, b.h100, 0, 0x8f2c94, 0x800);
    model_fault_set(b.m, b.h100, MODEL_FAULT_TORN_QUEUE, 1);
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0008020c};
    model_bar_write(b.m, b.h100, 0, 0x8f2ad0, 0x03000800);
    for (int i = 0; i < 3; i++)
        model_bar_write(b.m, b.h100, 0, 0x8f2ad4, words[i]);
    model_bar_write(b.m, b.h100, 0, 0x8f2c14, 0x808);
    model_bar_write(b.m, b.h100, 0, 0x8f2c10, 0x800);
    ms(b.m, 5);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c90), 0);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c94), 0x814);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c90), 0);
    assert_int_equal(model_bar_read(b.m, b.h100, 0, 0x8f2c90), 0x800);
    bench_free(&b);
}

static void mailbox_faults(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x0008020c}, answer[16];
    assert_int_equal(model_bar_read(b.m, b.gb202, 0, 0x8f1f84), 0x05000000);
    model_fault_set(b.m, b.gb202, MODEL_FAULT_MNOC_NO_CREDIT, 1);
    assert_int_equal(model_bar_read(b.m, b.gb202, 0, 0x8f1f84), 0x01000000);
    assert_int_equal(mnoc_call(b.m, b.gb202, words, 3, answer), 0);
    model_fault_set(b.m, b.gb202, MODEL_FAULT_MNOC_NO_CREDIT, 0);
    model_fault_set(b.m, b.gb202, MODEL_FAULT_MNOC_ERROR, 1);
    assert_int_equal(model_bar_read(b.m, b.gb202, 0, 0x8f1f84), 0x07000000);
    model_fault_set(b.m, b.gb202, MODEL_FAULT_MNOC_ERROR, 0);
    model_bar_write(b.m, b.gb202, 0, 0x8f1f84, 0xfffff | 1u << 20); /* too long: dropped */
    model_bar_write(b.m, b.gb202, 0, 0x8f1f88, 1);
    assert_int_equal(mnoc_call(b.m, b.gb202, words, 3, answer), 6);
    bench_free(&b);
}

static void reset_coupling_needs_its_channel_and_knob(void **state)
{
    (void)state;
    struct bench b = bench_new();
    uint32_t words[] = {0xc0000000, 0x1310de7e, 0x00010104}, answer[16];
    assert_int_equal(emem_call(b.m, b.h100, 1, words, 3, answer), 5);
    assert_int_equal(answer[4], 6);
    assert_int_equal(knob_set(b.m, b.h100, 36, 1), 0);
    assert_int_equal(emem_call(b.m, b.h100, 1, words, 3, answer), 5);
    assert_int_equal(answer[4], 0);
    assert_int_equal(emem_call(b.m, b.h100, 2, words, 3, answer), 5);
    assert_int_equal(answer[4], 6);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knobs_are_read_and_written_on_every_transport),
        cmocka_unit_test(the_answer_is_the_documented_one),
        cmocka_unit_test(permission_knobs_guard_their_partners),
        cmocka_unit_test(a_message_in_several_packets_is_answered_once),
        cmocka_unit_test(emem_ports_count_and_wrap),
        cmocka_unit_test(nonsense_packets_get_no_answer),
        cmocka_unit_test(faults_of_one_command),
        cmocka_unit_test(a_mute_fsp_takes_nothing),
        cmocka_unit_test(slow_answers_come_when_due),
        cmocka_unit_test(stale_and_torn_queues),
        cmocka_unit_test(mailbox_faults),
        cmocka_unit_test(reset_coupling_needs_its_channel_and_knob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
