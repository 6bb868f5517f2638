#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"

#define CC (CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_ON) | CC_MODE_BIT(CC_MODE_DEVTOOLS))
#define PPCIE CC_MODE_BIT(CC_MODE_PPCIE)

const struct bench_kind bench_kinds[4] = {
    {"gh100", 0x2331, 0x030200, CC | PPCIE},
    {"gb100", 0x2901, 0x030200, CC},
    {"gb202", 0x2bb5, 0x030000, CC},
    {"ls10", 0x22a3, 0x068000, CC_MODE_BIT(CC_MODE_OFF) | PPCIE},
};

struct model_regs {
    struct regs regs;
    struct model *model;
    int hw;
    uint32_t twist_at, twist_add, twist_config_at, twist_config;
    uint32_t owed[6]; /* MNOC: an answer that comes before those of the model */
    size_t n_owed, taken;
    int64_t owed_at_ns;
};

enum { MNOC_INFO = 0x8f1f04, MNOC_DATA = 0x8f1f08, MNOC_READY = 1 << 24 };

static struct model_regs *of(struct regs *regs)
{
    return (struct model_regs *)regs;
}

static uint32_t read_owed(struct model_regs *m, uint32_t at)
{
    if (model_now_ns(m->model) < m->owed_at_ns)
        return 0;
    if (at == MNOC_INFO)
        return MNOC_READY | (uint32_t)(m->n_owed - m->taken) * 4;
    uint32_t v = m->owed[m->taken++];
    if (m->taken == m->n_owed)
        m->n_owed = 0;
    return v;
}

static int m_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    (void)err;
    if (of(regs)->n_owed && (at == MNOC_INFO || at == MNOC_DATA)) {
        *ret = read_owed(of(regs), at);
        return 0;
    }
    *ret = model_bar_read(of(regs)->model, of(regs)->hw, 0, at);
    if (at == of(regs)->twist_at)
        *ret += of(regs)->twist_add;
    return 0;
}
static int m_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err)
{
    (void)err;
    model_bar_write(of(regs)->model, of(regs)->hw, 0, at, v);
    return 0;
}
static int m_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret, struct err *err)
{
    (void)err;
    *ret = model_config_read(of(regs)->model, of(regs)->hw, at, n);
    if (of(regs)->twist_config_at && at == of(regs)->twist_config_at)
        *ret = of(regs)->twist_config;
    return 0;
}
static int m_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v, struct err *err)
{
    (void)err;
    return model_config_write(of(regs)->model, of(regs)->hw, at, n, v);
}
static int64_t m_now_us(struct regs *regs)
{
    return model_now_ns(of(regs)->model) / 1000;
}
static void m_pause_us(struct regs *regs, int64_t us)
{
    model_advance_ns(of(regs)->model, us * 1000);
}
static void m_close(struct regs *regs)
{
    free(regs);
}
static const struct regs_ops model_ops = {
    .name = "model",
    .read = m_read,
    .write = m_write,
    .config_read = m_config_read,
    .config_write = m_config_write,
    .now_us = m_now_us,
    .pause_us = m_pause_us,
    .close = m_close,
};

struct bench *bench_new(const struct bench_kind *kind)
{
    struct err err = ERR_INIT;
    struct bench *b = xcalloc(1, sizeof *b);
    struct model_desc desc = {.bdf = "0000:18:00.0",
                              .vendor_id = 0x10de,
                              .device_id = kind->device_id,
                              .class_code = kind->class_code,
                              .parent = -1};
    assert_int_equal(model_create(NULL, &b->model, &err), 0);
    b->hw = model_add(b->model, &desc, &err);
    assert_true(b->hw >= 0);
    struct model_regs *r = xcalloc(1, sizeof *r);
    *r = (struct model_regs){
        .regs = {&model_ops, model_bar(b->model, b->hw, 0).size}, .model = b->model, .hw = b->hw};
    b->regs = &r->regs;
    return b;
}

void bench_free(struct bench *b)
{
    regs_close(b->regs);
    model_close(b->model);
    free(b);
}

int bench_open(struct bench *b, struct err *err)
{
    const char *hint = "";
    for (size_t i = 0; i < ARRAY_LEN(bench_kinds); i++) {
        if (bench_kinds[i].device_id == model_desc(b->model, b->hw)->device_id)
            hint = bench_kinds[i].name;
    }
    int r = chip_read_config(b->regs, &b->config, err);
    if (r == 0)
        r = chip_wake(b->regs, &b->config, err);
    if (r == 0)
        r = chip_wait_firewall(b->regs, &b->config, err);
    if (r == 0)
        r = chip_identify(b->regs, &b->config, hint, &b->chip, err);
    if (r == 0)
        r = chip_check_recovery(b->regs, b->chip, err);
    if (r == 0)
        r = chip_wait_boot(b->regs, b->chip, &b->config, err);
    if (r == 0)
        knobs_setup(&b->knobs, b->regs, b->chip);
    return r;
}

void bench_reset(struct bench *b)
{
    struct model_saved saved;
    model_config_save(b->model, b->hw, &saved);
    model_reset(b->model, b->hw, MODEL_RESET_FLR);
    model_advance_ns(b->model, 100000000);
    for (int i = 0; i < 100 && !model_config_ready(b->model, b->hw); i++)
        model_advance_ns(b->model, 10000000);
    model_config_restore(b->model, b->hw, &saved);
    if (b->chip)
        knobs_forget(&b->knobs);
}

void bench_owe_answer(struct bench *bench, int64_t at_ns, uint32_t value)
{
    struct model_regs *m = of(bench->regs);
    uint32_t packet[] = {0xc0000000, 0x1510de7e, 0, 0x13, 0, value};
    memcpy(m->owed, packet, sizeof packet);
    m->n_owed = ARRAY_LEN(m->owed);
    m->taken = 0;
    m->owed_at_ns = at_ns;
}

void bench_twist(struct bench *b, uint32_t at, uint32_t add)
{
    of(b->regs)->twist_at = at;
    of(b->regs)->twist_add = add;
}

void bench_twist_config(struct bench *b, unsigned at, uint32_t value)
{
    of(b->regs)->twist_config_at = at;
    of(b->regs)->twist_config = value;
}

void bench_fault(struct bench *b, int fault, int value)
{
    model_fault_set(b->model, b->hw, fault, value);
}

enum cc_mode bench_active(const struct bench *b)
{
    static const enum cc_mode to[] = {[MODEL_MODE_OFF] = CC_MODE_OFF,
                                      [MODEL_MODE_ON] = CC_MODE_ON,
                                      [MODEL_MODE_INVALID] = CC_MODE_INVALID,
                                      [MODEL_MODE_DEVTOOLS] = CC_MODE_DEVTOOLS,
                                      [MODEL_MODE_PPCIE] = CC_MODE_PPCIE};
    return to[model_active(b->model, b->hw)];
}

int bench_switch(struct bench *b, enum cc_mode mode, struct err *err)
{
    enum cc_mode active = CC_MODE_UNKNOWN;
    int r = mode_stage(&b->knobs, mode, err);
    if (r < 0)
        return r;
    knobs_forget(&b->knobs);
    r = mode_check(&b->knobs, mode, err);
    if (r < 0)
        return r;
    bench_reset(b);
    r = chip_wait_boot(b->regs, b->chip, &b->config, err);
    if (r == 0)
        r = chip_read_mode(b->regs, b->chip, &active, err);
    if (r == 0 && active != mode)
        r = err_set(err, EIO, "active is %s", cc_mode_name(active));
    return r;
}
