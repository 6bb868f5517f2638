/* Every fault of the model: what the layers say, and that they come back to work when it is over. */
#include "bench.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

static struct bench *open_bench(size_t kind)
{
    struct err err = ERR_INIT;
    struct bench *b = bench_new(&bench_kinds[kind]);
    if (bench_open(b, &err) < 0)
        fail_msg("%s", err.msg);
    return b;
}

static void expect(int got, int want, const struct err *err, const char *part, const char *what)
{
    if (got != want || (got < 0 && !strstr(err->msg, part)))
        fail_msg("%s: got %d '%s', not %d '…%s…'", what, got, err->msg, want, part);
}

/* after the fault a fresh session works, so nothing was left in a mailbox */
static void works_again(struct bench *b, const char *what)
{
    struct err err = ERR_INIT;
    uint16_t v = 0xffff;
    knobs_forget(&b->knobs);
    expect(knobs_read(&b->knobs, KNOB_CCM, &v, &err), 0, &err, "", what);
    assert_int_equal(v, model_knob(b->model, b->hw, KNOB_CCM));
    assert_int_equal(model_counters(b->model, b->hw).unknown, 0);
}

struct answer_fault {
    int fault, value, code;
    const char *part;
    bool emem_only, mnoc_only;
};

static const struct answer_fault answer_faults[] = {
    {MODEL_FAULT_FSP_ERROR, 0x202, EREMOTEIO, "status 0x202", false, false},
    {MODEL_FAULT_FSP_ERROR_ALWAYS, 0x9e, EREMOTEIO, "status 0x9e", false, false},
    {MODEL_FAULT_FSP_MUTE, 1, ETIMEDOUT, "FSP does not", false, false},
    {MODEL_FAULT_SHORT_ANSWER, 1, EBADMSG, "", false, false},
    {MODEL_FAULT_WRONG_TYPE, 1, EBADMSG, "message header", false, false},
    {MODEL_FAULT_WRONG_ECHO, 1, EBADMSG, "request of type", false, false},
    {MODEL_FAULT_MNOC_ERROR, 1, EIO, "error", false, true},
    {MODEL_FAULT_MNOC_NO_CREDIT, 1, ETIMEDOUT, "credit", false, true},
    {MODEL_FAULT_MMIO_DEAD, 1, EIO, "all ones", false, false},
    {MODEL_FAULT_DEAD, 1, EIO, "all ones", false, false},
    {MODEL_FAULT_PRIV_ERROR, 1, EIO, "0xbadf41", false, false},
};

static void bad_answers_are_errors_with_a_name(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        bool emem = kind == 0 || kind == 3;
        for (size_t f = 0; f < ARRAY_LEN(answer_faults); f++) {
            const struct answer_fault *a = &answer_faults[f];
            struct err err = ERR_INIT;
            uint16_t v = 0xabcd;
            if ((a->emem_only && !emem) || (a->mnoc_only && emem))
                continue;
            struct bench *b = open_bench(kind);
            bench_fault(b, a->fault, a->value);
            expect(knobs_read(&b->knobs, KNOB_CCM, &v, &err), -a->code, &err, a->part,
                   model_fault_name(a->fault));
            assert_int_equal(v, 0xabcd);
            if (a->code == EREMOTEIO)
                assert_int_equal(err.device_status, a->value);
            bench_fault(b, a->fault, 0);
            works_again(b, model_fault_name(a->fault));
            bench_free(b);
        }
    }
}

/* An answer with a word too many or too few is that of another command, or garbage. */
static void answers_of_another_size(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    uint16_t v;
    static const struct {
        uint32_t add;
        const char *part;
    } sizes[] = {{4, "2 words instead of 1"},
                 {(uint32_t)-4, "0 words instead of 1"},
                 {(uint32_t)-8, "impossible size"},
                 {2000, "impossible size"},
                 {1, "impossible size"},
                 {0x80000000, "impossible size"}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct bench *b = open_bench(0);
        works_again(
            b,
            "before"); /* the queue's tail rests on its base, so the twist shows in answers only */
        bench_twist(b, 0x8f2c94, sizes[i].add);
        expect(knobs_read(&b->knobs, KNOB_CCD, &v, &err), -EBADMSG, &err, sizes[i].part, "EMEM");
        bench_twist(b, 0, 0);
        works_again(b, "after");
        bench_free(b);
        b = open_bench(1); /* the size is a field of 20 bits there */
        bench_twist(b, 0x8f1f04, sizes[i].add & 0xfffff ? sizes[i].add & 0xfffff : 2);
        assert_true(knobs_read(&b->knobs, KNOB_CCD, &v, &err) < 0);
        bench_free(b);
    }
}

/* What others left in the queues must not be taken for our answer. */
static void leftovers_are_dropped(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct bench *b = open_bench(kind);
        (void)model_set_knob(b->model, b->hw, KNOB_CCM, 0x77); /* what the old answers do not say */
        bench_fault(b, MODEL_FAULT_STALE_ANSWER, 1);
        works_again(b, "stale answer");
        bench_fault(b, MODEL_FAULT_STALE_COMMAND, 1);
        works_again(b, "stale command");
        bench_fault(b, MODEL_FAULT_STALE_COMMAND, 1);
        bench_fault(b, MODEL_FAULT_STALE_ANSWER, 1);
        works_again(b, "stale command and answer");
        bench_free(b);
    }
}

/* The model's MNOC forgets an answer when the next command comes; firmware that does not is played in between. */
static void leftovers_of_mnoc_are_dropped(void **state)
{
    (void)state;
    for (size_t kind = 1; kind <= 2; kind++) {
        struct bench *b = open_bench(kind);
        bench_owe_answer(b, 0, 0x77);
        works_again(b, "left by another");
        bench_free(b);
    }
}

static void a_late_answer_of_mnoc_is_waited_for_and_dropped(void **state)
{
    (void)state;
    for (size_t kind = 1; kind <= 2; kind++) {
        struct err err = ERR_INIT;
        uint16_t v;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_FSP_MUTE, 1);
        assert_int_equal(knobs_read(&b->knobs, KNOB_CCD, &v, &err), -ETIMEDOUT);
        bench_fault(b, MODEL_FAULT_FSP_MUTE, 0);
        bench_owe_answer(b, model_now_ns(b->model) + 1000000000, 0x77);
        works_again(b, "late answer");
        bench_free(b);
    }
}

static void torn_and_slow_queues_are_waited_for(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_TORN_QUEUE, 20);
        expect(bench_switch(b,
                            bench_kinds[kind].modes & CC_MODE_BIT(CC_MODE_ON) ? CC_MODE_ON
                                                                              : CC_MODE_PPCIE,
                            &err),
               0, &err, "", "torn");
        bench_fault(b, MODEL_FAULT_FSP_SLOW, 900);
        expect(bench_switch(b, CC_MODE_OFF, &err), 0, &err, "", "slow");
        bench_free(b);
    }
}

/* Each answer in time, all together not: the session's budget ends it. */
static void endless_slowness_ends(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench *b = open_bench(0);
    bench_fault(b, MODEL_FAULT_FSP_SLOW, 4500);
    int64_t begin = model_now_ns(b->model);
    expect(mode_stage(&b->knobs, CC_MODE_ON, &err), -ETIMEDOUT, &err, "FSP", "budget");
    int64_t took_ms = (model_now_ns(b->model) - begin) / 1000000;
    assert_in_range(took_ms, 18000, 26000);
    bench_free(b);
}

static void mute_firmware_costs_its_limit_and_no_more(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct err err = ERR_INIT;
        uint16_t v;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_FSP_MUTE, 1);
        int64_t begin = model_now_ns(b->model);
        assert_int_equal(knobs_read(&b->knobs, KNOB_CCM, &v, &err), -ETIMEDOUT);
        assert_in_range((model_now_ns(b->model) - begin) / 1000000, 4900, 6100);
        bench_free(b);
    }
}

/* The answer to a write comes too late, but the write was carried out: it is put back with the others, on a budget of its
 * own, and the late answer is not taken for one to a later request. */
static void a_write_that_timed_out_is_put_back(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        for (int slow = 1500; slow <= 4900; slow += 100) { /* the budget ends at every place */
            struct err err = ERR_INIT;
            int before[MODEL_KNOBS], after[MODEL_KNOBS];
            enum cc_mode mode =
                bench_kinds[kind].modes & CC_MODE_BIT(CC_MODE_ON) ? CC_MODE_ON : CC_MODE_PPCIE;
            struct bench *b = open_bench(kind);
            (void)model_set_knob(b->model, b->hw, KNOB_2, 1);
            for (unsigned id = 0; id < MODEL_KNOBS; id++)
                before[id] = model_knob(b->model, b->hw, id);
            bench_fault(b, MODEL_FAULT_FSP_SLOW, slow);
            int64_t begin = model_now_ns(b->model);
            int r = mode_stage(&b->knobs, mode, &err);
            int64_t took_ms = (model_now_ns(b->model) - begin) / 1000000;
            for (unsigned id = 0; id < MODEL_KNOBS; id++)
                after[id] = model_knob(b->model, b->hw, id);
            if (took_ms > 45000 || (r < 0 && (r != -ETIMEDOUT || strstr(err.msg, "put back") ||
                                              memcmp(before, after, sizeof before) != 0)))
                fail_msg("%s, %d ms slower: %d '%s' after %lld ms", bench_kinds[kind].name, slow, r,
                         err.msg, (long long)took_ms);
            bench_fault(b, MODEL_FAULT_FSP_SLOW, 0);
            works_again(b, "after");
            bench_free(b);
        }
    }
}

static void lost_writes_are_seen_by_reading_back(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench *b = open_bench(0);
    bench_fault(b, MODEL_FAULT_WRITE_LOST, 1);
    int r = bench_switch(b, CC_MODE_ON, &err);
    expect(r, -EIO, &err, "10 is 0 instead of 2", "write lost");
    bench_free(b);
}

static void refused_write_puts_the_others_back(void **state)
{
    (void)state;
    for (size_t kind = 0; kind <= 2; kind++) { /* the switch has no CC */
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        /* its reads, 1 permission, first write, then the refusal of the second one */
        assert_int_equal(mode_stage(&b->knobs, CC_MODE_OFF, &err), 0);
        knobs_forget(&b->knobs);
        (void)model_set_knob(b->model, b->hw, KNOB_CCD_ALLOW, 0);
        (void)model_set_knob(b->model, b->hw, KNOB_CCD, 0);
        assert_int_equal(mode_stage(&b->knobs, CC_MODE_DEVTOOLS, &err), -EACCES);
        assert_int_equal(model_knob(b->model, b->hw, KNOB_CCM), 0);
        assert_int_equal(model_knob(b->model, b->hw, KNOB_CCD), 0);
        bench_free(b);
    }
}

/* ---- boot, firewall, identification ---- */

static void boot_that_never_ends(void **state)
{
    (void)state;
    static const int limit_s[] = {5, 10, 10, 5};
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_BOOT_NEVER, 1);
        bench_reset(b);
        int64_t begin = model_now_ns(b->model);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), -ETIMEDOUT, &err,
               "did not report boot complete", "boot");
        int64_t took = (model_now_ns(b->model) - begin) / 1000000;
        assert_in_range(took, limit_s[kind] * 1000, limit_s[kind] * 1000 + 1000);
        bench_free(b);
    }
}

static void slow_boot_is_waited_for(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_BOOT_SLOW, 2500);
        bench_reset(b);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), 0, &err, "", "slow boot");
        bench_free(b);
    }
}

/* GH200, GB200: memory training and the link may take 30 s together (Linux nvgrace-gpu). */
static void grace_superchips_are_waited_for(void **state)
{
    (void)state;
    static const struct bench_kind kinds[] = {{"gh100", 0x2342, 0x030200, 0},
                                              {"gb100", 0x2941, 0x030200, 0}};
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        struct err err = ERR_INIT;
        struct bench *b = bench_new(&kinds[kind]);
        expect(bench_open(b, &err), 0, &err, "", kinds[kind].name);
        expect(bench_switch(b, CC_MODE_ON, &err), 0, &err, "", kinds[kind].name);
        bench_fault(b, MODEL_FAULT_BOOT_SLOW, 12000);
        bench_fault(b, MODEL_FAULT_LINK_SLOW, 12000);
        bench_reset(b);
        int64_t begin = model_now_ns(b->model);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), 0, &err, "", "slow");
        assert_true(model_now_ns(b->model) - begin > 24000000000);
        bench_fault(b, MODEL_FAULT_LINK_SLOW, 60000);
        bench_reset(b);
        begin = model_now_ns(b->model);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), -ETIMEDOUT, &err,
               "did not report the link to the processor up within 30 s (register 0x1498", "link");
        assert_in_range((model_now_ns(b->model) - begin) / 1000000, 30000, 31000);
        bench_free(b);
    }
}

static void error_pattern_while_booting(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        bool tolerant = kind == 1 || kind == 2; /* Blackwell */
        bench_fault(b, MODEL_FAULT_BOOT_BADF, 1);
        bench_reset(b);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), tolerant ? 0 : -EIO, &err,
               "boot failed", bench_kinds[kind].name);
        bench_free(b);
    }
}

static void device_that_falls_off_while_booting(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench *b = open_bench(0);
    bench_reset(b);
    bench_fault(b, MODEL_FAULT_DEAD, 1);
    int64_t begin = model_now_ns(b->model);
    expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), -ENODEV, &err, "fell off the bus",
           "dead");
    assert_true(model_now_ns(b->model) - begin < 1000000000); /* at once, not after the limit */
    bench_free(b);
}

static void firewall_that_stays_up(void **state)
{
    (void)state;
    for (size_t kind = 1; kind <= 2; kind++) {
        struct err err = ERR_INIT;
        struct bench *b = open_bench(kind);
        bench_fault(b, MODEL_FAULT_FIREWALL_NEVER, 1);
        bench_reset(b);
        expect(chip_wait_boot(b->regs, b->chip, &b->config, &err), -ETIMEDOUT, &err, "firewall",
               "firewall");
        bench_free(b);
    }
}

static void broken_devices_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        int fault, value, code;
        const char *part;
    } cases[] = {
        {MODEL_FAULT_DEAD, 1, ENODEV, "configuration space reads all ones"},
        {MODEL_FAULT_MMIO_DEAD, 1, EIO, "all ones"},
        {MODEL_FAULT_PRIV_ERROR, 1, EIO, "privilege mask"},
        {MODEL_FAULT_SECURITY, 0x4020, ENOTRECOVERABLE, "sec2-dcls watchdog"},
        {MODEL_FAULT_RECOVERY, 1, ENOTRECOVERABLE, "recovery mode"},
    };
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct err err = ERR_INIT;
            struct bench *b = bench_new(&bench_kinds[kind]);
            if (kind == 3 && cases[i].fault == MODEL_FAULT_SECURITY) {
                bench_free(b); /* the fault word of switches is not documented */
                continue;
            }
            bench_fault(b, cases[i].fault, cases[i].value);
            expect(bench_open(b, &err), -cases[i].code, &err, cases[i].part,
                   bench_kinds[kind].name);
            bench_fault(b, cases[i].fault, 0);
            expect(bench_open(b, &err), 0, &err, "", "after the fault");
            bench_free(b);
        }
    }
}

static void sleeping_device_is_woken_by_configuration_space(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench *b = bench_new(&bench_kinds[0]);
    model_set_power(b->model, b->hw, MODEL_D3HOT);
    expect(bench_open(b, &err), 0, &err, "", "D3hot");
    /* memory decoding is off after a hot plug (REF-L 5.7) */
    (void)model_config_write(b->model, b->hw, 4, 2, 0);
    expect(bench_open(b, &err), 0, &err, "", "memory decoding off");
    model_set_power(b->model, b->hw, MODEL_D3COLD);
    expect(bench_open(b, &err), -ENODEV, &err, "D3cold", "D3cold");
    bench_free(b);
}

/* An id that no table has: the registers say what it is, and what it can do. */
static void unlisted_ids_are_asked(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(bench_kinds); kind++) {
        struct err err = ERR_INIT;
        const struct chip *chip = NULL;
        struct bench *b = open_bench(kind);
        expect(chip_identify(b->regs, &b->config, "unlisted", &chip, &err), 0, &err, "",
               "unlisted");
        assert_string_equal(chip->name, bench_kinds[kind].name);
        expect(chip_identify(b->regs, &b->config, kind == 0 ? "gb100" : "gh100", &chip, &err), 0,
               &err, "", "other");
        assert_string_equal(chip->name, bench_kinds[kind].name); /* registers win over the id */
        bench_free(b);
    }
    struct bench_kind a100 = {"", 0x20b0, 0x030200, 0};
    struct err err = ERR_INIT;
    struct bench *b = bench_new(&a100);
    expect(bench_open(b, &err), 0, &err, "", "A100");
    expect(chip_identify(b->regs, &b->config, "unlisted", &b->chip, &err), 0, &err, "", "unlisted");
    assert_int_equal(b->chip->family, CHIP_PLAIN);
    assert_true(b->chip->unlisted); /* nobody knows it: not the same as a chip without CC */
    struct knob_target targets[12];
    expect(mode_targets(b->chip, CC_MODE_OFF, false, targets, &err), -EOPNOTSUPP, &err,
           "not known to this release", "off");
    expect(chip_identify(b->regs, &b->config, "", &b->chip, &err), 0, &err, "", "by its id");
    assert_false(b->chip->unlisted);
    expect(chip_identify(b->regs, &b->config, "gh100", &b->chip, &err), -EIO, &err, "is no gh100",
           "lies");
    bench_free(b);
}

/* The link is down but a bridge still answers part of configuration space (REF-L 6.9). */
static void half_dead_configuration_space(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct chip_config config;
    struct bench *b = open_bench(0);
    bench_twist_config(b, 0xf0, 0xffff);
    expect(chip_read_config(b->regs, &config, &err), -ENODEV, &err, "all ones", "probe word");
    bench_twist_config(b, 0x34, 0xff);
    expect(chip_read_config(b->regs, &config, &err), -ENODEV, &err, "all ones", "capabilities");
    bench_twist_config(b, 0, 0);
    expect(chip_read_config(b->regs, &config, &err), 0, &err, "", "whole");
    bench_free(b);
}

static void other_chips_have_no_modes(void **state)
{
    (void)state;
    struct bench_kind a100 = {"", 0x20b0, 0x030200, 0};
    struct err err = ERR_INIT;
    unsigned modes = 1;
    enum cc_mode mode = CC_MODE_UNKNOWN;
    struct bench *b = bench_new(&a100);
    expect(bench_open(b, &err), 0, &err, "", "A100");
    assert_int_equal(b->chip->family, CHIP_PLAIN);
    assert_int_equal(mode_capable(&b->knobs, &modes, &err), 0);
    assert_int_equal(modes, 0);
    assert_int_equal(chip_read_mode(b->regs, b->chip, &mode, &err), 0);
    assert_int_equal(mode, CC_MODE_OFF);
    assert_int_equal(mode_stage(&b->knobs, CC_MODE_ON, &err), -EOPNOTSUPP);
    assert_int_equal(mode_stage(&b->knobs, CC_MODE_OFF, &err), 0);
    assert_int_equal(model_counters(b->model, b->hw).writes, 0);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_answers_are_errors_with_a_name),
        cmocka_unit_test(answers_of_another_size),
        cmocka_unit_test(leftovers_are_dropped),
        cmocka_unit_test(leftovers_of_mnoc_are_dropped),
        cmocka_unit_test(a_late_answer_of_mnoc_is_waited_for_and_dropped),
        cmocka_unit_test(torn_and_slow_queues_are_waited_for),
        cmocka_unit_test(endless_slowness_ends),
        cmocka_unit_test(mute_firmware_costs_its_limit_and_no_more),
        cmocka_unit_test(a_write_that_timed_out_is_put_back),
        cmocka_unit_test(lost_writes_are_seen_by_reading_back),
        cmocka_unit_test(refused_write_puts_the_others_back),
        cmocka_unit_test(boot_that_never_ends),
        cmocka_unit_test(slow_boot_is_waited_for),
        cmocka_unit_test(grace_superchips_are_waited_for),
        cmocka_unit_test(error_pattern_while_booting),
        cmocka_unit_test(device_that_falls_off_while_booting),
        cmocka_unit_test(firewall_that_stays_up),
        cmocka_unit_test(broken_devices_are_told_apart),
        cmocka_unit_test(sleeping_device_is_woken_by_configuration_space),
        cmocka_unit_test(unlisted_ids_are_asked),
        cmocka_unit_test(half_dead_configuration_space),
        cmocka_unit_test(other_chips_have_no_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
