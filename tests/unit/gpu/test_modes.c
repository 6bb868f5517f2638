/* Every chip, every mode, from every and from random start states. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

static const uint8_t ours[] = {2, 4, 6, 8, 10, 34, 45};

static bool is_ours(unsigned id)
{
    for (size_t i = 0; i < sizeof ours; i++) {
        if (ours[i] == id)
            return true;
    }
    return false;
}

static void snapshot(const struct bench *b, int ret[MODEL_KNOBS])
{
    for (unsigned id = 1; id < MODEL_KNOBS; id++)
        ret[id] = model_knob(b->model, b->hw, id);
}

static void fail_if(int r, const struct err *err, const char *chip, const char *what, unsigned seed)
{
    if (r < 0)
        fail_msg("%s %s (seed %u): %s", chip, what, seed, err->msg);
}

static void switch_and_check(const struct bench_kind *kind, struct bench *b, enum cc_mode mode,
                             unsigned seed)
{
    struct err err = ERR_INIT;
    int before[MODEL_KNOBS] = {0}, after[MODEL_KNOBS] = {0};
    enum cc_mode pending = CC_MODE_UNKNOWN;
    snapshot(b, before);
    fail_if(bench_switch(b, mode, &err), &err, kind->name, cc_mode_name(mode), seed);
    assert_int_equal(bench_active(b), mode);
    snapshot(b, after);
    for (unsigned id = 1; id < MODEL_KNOBS; id++) {
        if (!is_ours(id))
            assert_int_equal(before[id], after[id]);
    }
    fail_if(mode_pending(&b->knobs, &pending, &err), &err, kind->name, "pending", seed);
    assert_int_equal(pending, mode);
    /* a second time there is nothing to do */
    assert_int_equal(mode_stage(&b->knobs, mode, &err), 0);
    assert_int_equal(model_counters(b->model, b->hw).unknown, 0);
}

static void every_mode_from_every_mode(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(bench_kinds); k++) {
        const struct bench_kind *kind = &bench_kinds[k];
        for (enum cc_mode from = CC_MODE_OFF; from <= CC_MODE_PPCIE; from++) {
            for (enum cc_mode to = CC_MODE_OFF; to <= CC_MODE_PPCIE; to++) {
                if (!(kind->modes & CC_MODE_BIT(from)) || !(kind->modes & CC_MODE_BIT(to)))
                    continue;
                struct err err = ERR_INIT;
                struct bench *b = bench_new(kind);
                fail_if(bench_open(b, &err), &err, kind->name, "open", 0);
                switch_and_check(kind, b, from, 0);
                switch_and_check(kind, b, to, 0);
                bench_free(b);
            }
        }
    }
}

static void every_mode_from_random_knobs(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        const struct bench_kind *kind = &bench_kinds[seed % ARRAY_LEN(bench_kinds)];
        struct err err = ERR_INIT;
        struct bench *b = bench_new(kind);
        unsigned random = seed;
        for (size_t i = 0; i < sizeof ours; i++) {
            if (kind->modes & CC_MODE_BIT(CC_MODE_PPCIE) || ours[i] != 45)
                (void)model_set_knob(b->model, b->hw, ours[i], (uint16_t)(rand_r(&random) % 3));
        }
        if (rand_r(&random) % 2) /* staged by somebody, or active already */
            bench_reset(b);
        fail_if(bench_open(b, &err), &err, kind->name, "open", seed);
        enum cc_mode mode;
        do
            mode = CC_MODE_OFF + (enum cc_mode)(rand_r(&random) % 4);
        while (!(kind->modes & CC_MODE_BIT(mode)));
        switch_and_check(kind, b, mode, seed);
        bench_free(b);
    }
}

static void capable_modes_come_from_the_chip(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(bench_kinds); k++) {
        struct err err = ERR_INIT;
        unsigned modes = 0;
        struct bench *b = bench_new(&bench_kinds[k]);
        assert_int_equal(bench_open(b, &err), 0);
        assert_int_equal(mode_capable(&b->knobs, &modes, &err), 0);
        assert_int_equal(modes, bench_kinds[k].modes);
        bench_free(b);
    }
}

static void impossible_modes_write_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(bench_kinds); k++) {
        for (enum cc_mode mode = CC_MODE_OFF; mode <= CC_MODE_PPCIE; mode++) {
            if (bench_kinds[k].modes & CC_MODE_BIT(mode))
                continue;
            struct err err = ERR_INIT;
            int before[MODEL_KNOBS] = {0}, after[MODEL_KNOBS] = {0};
            struct bench *b = bench_new(&bench_kinds[k]);
            assert_int_equal(bench_open(b, &err), 0);
            snapshot(b, before);
            assert_int_equal(mode_stage(&b->knobs, mode, &err), -EOPNOTSUPP);
            snapshot(b, after);
            assert_memory_equal(before, after, sizeof before);
            bench_free(b);
        }
    }
}

static void old_firmware_has_cc_but_no_ppcie(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    unsigned modes = 0;
    struct bench *b = bench_new(&bench_kinds[0]);
    bench_fault(b, MODEL_FAULT_PPCIE_INVALID, 1);
    assert_int_equal(bench_open(b, &err), 0);
    assert_int_equal(mode_capable(&b->knobs, &modes, &err), 0);
    assert_int_equal(modes, bench_kinds[1].modes);
    assert_int_equal(mode_stage(&b->knobs, CC_MODE_PPCIE, &err), -EREMOTEIO);
    assert_int_equal(err.device_status, 0x1e3);
    assert_non_null(strstr(err.msg, "firmware does not have it"));
    for (enum cc_mode mode = CC_MODE_ON; mode != CC_MODE_UNKNOWN;
         mode = mode == CC_MODE_ON         ? CC_MODE_DEVTOOLS
                : mode == CC_MODE_DEVTOOLS ? CC_MODE_OFF
                                           : 0)
        fail_if(bench_switch(b, mode, &err), &err, "gh100", cc_mode_name(mode), 0);
    bench_free(b);
}

/* REF-P 6.3: whatever is interrupted, CCD never stands without CCM. Written knobs are looked at one by one. */
static void no_prefix_of_a_change_is_invalid(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        for (enum cc_mode from = CC_MODE_OFF; from <= CC_MODE_PPCIE; from++) {
            for (enum cc_mode to = CC_MODE_OFF; to <= CC_MODE_PPCIE; to++) {
                struct err err = ERR_INIT;
                struct knob_target old[12], new[12];
                uint16_t knob[MODEL_KNOBS] = {0};
                int n_old = mode_targets(chip_find(bench_kinds[k].name), from, k == 0, old, &err);
                int n_new = mode_targets(chip_find(bench_kinds[k].name), to, k == 0, new, &err);
                for (int i = 0; i < n_old; i++)
                    knob[old[i].id] = old[i].value;
                for (int i = 0; n_old > 0 && i < n_new; i++) {
                    knob[new[i].id] = new[i].value;
                    assert_false(knob[KNOB_CCD] && !knob[KNOB_CCM]);
                }
            }
        }
    }
}

/* Knob writes that reached the mailbox: third word of a message, sub-message 0x0d. */
static int count_writes(const struct bench *b)
{
    struct model_access a;
    uint64_t cursor = 0;
    int n = 0;
    while (model_trace_read(b->model, &cursor, &a, 1) == 1)
        n += a.op == 'W' && a.offset == 0x8f2ad4 && (a.value & 0xffff) == 0x020d;
    return n;
}

static void permission_is_asked_before_the_first_write(void **state)
{
    (void)state;
    static const struct {
        enum cc_mode from, to;
        int forbidden; /* of the knob that decides, but for the decoupler's and where two decide */
        bool late;
    } cases[] = {
        {CC_MODE_OFF, CC_MODE_ON, KNOB_CCM_ALLOW, false},
        {CC_MODE_ON, CC_MODE_OFF, KNOB_CCM_ALLOW, false},
        {CC_MODE_ON, CC_MODE_DEVTOOLS, KNOB_CCD_ALLOW, false},
        {CC_MODE_OFF, CC_MODE_PPCIE, KNOB_PPCIE_ALLOW, false},
        {CC_MODE_PPCIE, CC_MODE_OFF, KNOB_PPCIE_ALLOW, false},
        {CC_MODE_OFF, CC_MODE_ON, KNOB_DECOUPLER_ALLOW, true},
        {CC_MODE_OFF, CC_MODE_DEVTOOLS, KNOB_CCD_ALLOW, true},
        {CC_MODE_PPCIE, CC_MODE_ON, KNOB_CCM_ALLOW, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        char name[40];
        int before[MODEL_KNOBS] = {0}, after[MODEL_KNOBS] = {0};
        struct bench *b = bench_new(&bench_kinds[0]);
        assert_int_equal(bench_open(b, &err), 0);
        fail_if(bench_switch(b, cases[i].from, &err), &err, "gh100", "start", (unsigned)i);
        (void)model_set_knob(b->model, b->hw, (unsigned)cases[i].forbidden, 0);
        knobs_forget(&b->knobs);
        snapshot(b, before);
        model_trace(b->model, true);
        int r = mode_stage(&b->knobs, cases[i].to, &err);
        assert_true(cases[i].late || count_writes(b) == 0);
        if (r != -EACCES)
            fail_msg("case %zu: %d %s", i, r, err.msg);
        (void)snprintf(name, sizeof name, "knob %d (", cases[i].forbidden);
        assert_non_null(strstr(err.msg, name));
        assert_non_null(strstr(err.msg, "out-of-band policy"));
        snapshot(b, after);
        assert_memory_equal(before, after, sizeof before); /* nothing is left half staged */
        bench_free(b);
    }
}

/* What peers stumble over: in ppcie the CC bits read "off" (REF-P 3, W1). */
static void ppcie_is_not_taken_for_off(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    enum cc_mode pending = CC_MODE_UNKNOWN;
    struct bench *b = bench_new(&bench_kinds[0]);
    assert_int_equal(bench_open(b, &err), 0);
    fail_if(bench_switch(b, CC_MODE_PPCIE, &err), &err, "gh100", "ppcie", 0);
    assert_int_equal(model_bar_read(b->model, b->hw, 0, 0x1182cc) & 3, 0);
    assert_int_equal(mode_check(&b->knobs, CC_MODE_OFF, &err), -EIO);
    assert_int_equal(mode_pending(&b->knobs, &pending, &err), 0);
    assert_int_equal(pending, CC_MODE_PPCIE);
    fail_if(bench_switch(b, CC_MODE_OFF, &err), &err, "gh100", "off", 0);
    assert_int_equal(model_knob(b->model, b->hw, 45), 0);
    bench_free(b);
}

/* An interrupted switch: staged by one, not reset; the next one sees pending and active apart. */
static void staged_is_not_active(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    enum cc_mode pending = CC_MODE_UNKNOWN, active = CC_MODE_UNKNOWN;
    struct bench *b = bench_new(&bench_kinds[0]);
    assert_int_equal(bench_open(b, &err), 0);
    assert_int_equal(mode_stage(&b->knobs, CC_MODE_ON, &err), 2);
    knobs_forget(&b->knobs);
    assert_int_equal(mode_pending(&b->knobs, &pending, &err), 0);
    assert_int_equal(chip_read_mode(b->regs, b->chip, &active, &err), 0);
    assert_int_equal(pending, CC_MODE_ON);
    assert_int_equal(active, CC_MODE_OFF);
    /* on without its BAR0 filter is not on */
    (void)model_set_knob(b->model, b->hw, KNOB_DECOUPLER, 0);
    knobs_forget(&b->knobs);
    assert_int_equal(mode_pending(&b->knobs, &pending, &err), 0);
    assert_int_equal(pending, CC_MODE_INVALID);
    bench_free(b);
}

/* The figures of the protocol reference's "goal" column: reads and writes of a Hopper switch. */
static void accesses_are_few(void **state)
{
    (void)state;
    for (enum cc_mode mode = CC_MODE_ON; mode <= CC_MODE_PPCIE; mode++) {
        struct err err = ERR_INIT;
        struct bench *b = bench_new(&bench_kinds[0]);
        assert_int_equal(bench_open(b, &err), 0);
        assert_true(mode_stage(&b->knobs, mode, &err) > 0);
        struct model_counters c = model_counters(b->model, b->hw);
        if (c.reads > 120 - 6 || c.writes > 88 - 4) /* what reset and verify need comes on top */
            fail_msg("%s: %llu reads, %llu writes", cc_mode_name(mode), (unsigned long long)c.reads,
                     (unsigned long long)c.writes);
        bench_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_from_every_mode),
        cmocka_unit_test(every_mode_from_random_knobs),
        cmocka_unit_test(capable_modes_come_from_the_chip),
        cmocka_unit_test(impossible_modes_write_nothing),
        cmocka_unit_test(old_firmware_has_cc_but_no_ppcie),
        cmocka_unit_test(no_prefix_of_a_change_is_invalid),
        cmocka_unit_test(permission_is_asked_before_the_first_write),
        cmocka_unit_test(ppcie_is_not_taken_for_off),
        cmocka_unit_test(staged_is_not_active),
        cmocka_unit_test(accesses_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
