/* BAR accesses: which registers each kind of device has, and what they read.
 *
 * The table is the documented set that NVIDIA's tool and the drivers use; everything else reads 0xbadf5040 and is
 * counted, so that a client's stray access fails its test. Values nobody can check are constants. */
#include "simulator/model/state.h"

enum reg {
    REG_CONST,
    REG_SINK, /* written only; what it does is not visible */
    REG_PRIV_RING,
    REG_BOOT0,
    REG_BOOT,
    REG_LINK,
    REG_MODE,
    REG_RECOVERY,
    REG_SCRATCH_FLR,
    REG_SCRATCH_SBR,
    REG_EMEM,
    REG_MNOC,
    REG_UNITS,
};
enum rw { RD = 1, WR = 2, RW = 3 };

struct reg_range {
    uint32_t first, last;
    uint32_t kinds;
    enum rw rw;
    enum reg reg;
    uint32_t
        value; /* REG_CONST: what it reads; REG_RECOVERY: the bit or byte that means recovery */
};

#define BADF_BOOT 0xbadf5620u
#define BADF_SECURITY 0xbadf0200u
#define BADF_PRIV 0xbadf4100u
#define RECOVERY_BIT 0x40000000u
#define PRIV_RING_START 4u

static const struct reg_range registers[] = {
    {0x000000, 0x000000, KIND_NVIDIA, RD, REG_BOOT0, 0},
    {0x8f2c10, 0x8f2c14, KIND_EMEM, RW, REG_EMEM, 0},
    {0x8f2c90, 0x8f2c94, KIND_EMEM, RW, REG_EMEM, 0},
    {0x8f2ad0, 0x8f2ad4, KIND_EMEM, RW, REG_EMEM, 0},
    {0x8f2c08, 0x8f2c0c, KIND_HOPPER, RW, REG_EMEM, 0},
    {0x8f2c88, 0x8f2c8c, KIND_HOPPER, RW, REG_EMEM, 0},
    {0x8f2ac8, 0x8f2acc, KIND_HOPPER, RW, REG_EMEM, 0},
    {0x8f1f04, 0x8f1f08, KIND_BLACKWELL, RD, REG_MNOC, 0},
    {0x8f1f84, 0x8f1f84, KIND_BLACKWELL, RW, REG_MNOC, 0},
    {0x8f1f88, 0x8f1f88, KIND_BLACKWELL, WR, REG_MNOC, 0},
    {0x0200bc, 0x0200bc, KIND_HOPPER | KIND_GB10X, RD, REG_BOOT, 0},
    {0xad00bc, 0xad00bc, KIND_GB20X, RD, REG_BOOT, 0},
    {0x0660bc, 0x0660bc, KIND_SWITCH, RD, REG_BOOT, 0},
    {0x001498, 0x001498, KIND_HOPPER | KIND_GB10X, RD, REG_LINK, 0},
    {0x1182cc, 0x1182cc, KIND_HOPPER, RD, REG_MODE, 0},
    {0x000590, 0x000590, KIND_BLACKWELL, RD, REG_MODE, 0},
    {0x028c50, 0x028c50, KIND_SWITCH, RD, REG_MODE, 0},
    {0x020120, 0x020120, KIND_HOPPER, RD, REG_RECOVERY, RECOVERY_BIT},
    {0x020120, 0x020120, KIND_BLACKWELL, RD, REG_CONST, 0},
    {0x0200bc, 0x0200bc, KIND_GB20X, RD, REG_CONST,
     MODEL_UNKNOWN}, /* the tool's dump tries it, expecting this */
    {0x8aa128, 0x8aa128, KIND_BLACKWELL, RD, REG_RECOVERY, 2},
    {0x066120, 0x066120, KIND_SWITCH, RD, REG_RECOVERY, RECOVERY_BIT},
    {0x001458, 0x001458, KIND_HOPPER | KIND_OLD, RW, REG_SCRATCH_FLR, 0},
    {0x00dfe0, 0x00dfe0, KIND_SWITCH, RW, REG_SCRATCH_FLR, 0},
    {0x091288, 0x091288, KIND_EMEM, RW, REG_SCRATCH_SBR, 0},
    {0x088e10, 0x088e10, KIND_OLD, RW, REG_SCRATCH_SBR, 0},
    {0x118234, 0x118234, KIND_OLD, RD, REG_BOOT, 0},
    {0x12004c, 0x12004c, KIND_HOPPER | KIND_OLD, WR, REG_PRIV_RING, 0},
    {0x122204, 0x122204, KIND_HOPPER | KIND_OLD, WR, REG_SINK, 0},
    {0x0224fc, 0x0224fc, KIND_HOPPER | KIND_BLACKWELL, RD, REG_CONST,
     8u << 20 | 3u << 16 | 8u << 4 | 2},
    {0x022800, 0x02281c, KIND_HOPPER | KIND_BLACKWELL, RD, REG_UNITS, 0},
    /* sizes and port counts of the FSP's processor: any consistent values will do (estimates) */
    {0x8f012c, 0x8f012c, KIND_FSP, RD, REG_CONST, 0x00008800},
    {0x8f0278, 0x8f0278, KIND_FSP, RD, REG_CONST, 0x00e00100},
    {0x8f0abc, 0x8f0abc, KIND_FSP, RD, REG_CONST, EMEM_BYTES / 256},
    /* diagnosis */
    {0x000a00, 0x000a00, KIND_NVIDIA, RD, REG_CONST, 0},
    {0x8f0320, 0x8f032c, KIND_FSP, RD, REG_CONST, 0},
    {0x8f0334, 0x8f0334, KIND_FSP, RD, REG_CONST, 0x0000060f},
    {0x118238, 0x118240, KIND_OLD, RD, REG_CONST, 0},
    {0x10a3c0, 0x10a3c0, KIND_OLD, RD, REG_CONST, 0}, /* power unit: no driver uses it */
    {0x10a080, 0x10a080, KIND_OLD, RD, REG_CONST, 0},
    {0x001720, 0x001728, KIND_OLD, RD, REG_CONST, 0},
    {0x001400, 0x0014fc, KIND_HOPPER | KIND_BLACKWELL | KIND_OLD, RD, REG_CONST, 0},
    {0x09128c, 0x09128c, KIND_HOPPER, RD, REG_CONST, 0},
    {0x091238, 0x091238, KIND_HOPPER, RD, REG_CONST, 0},
    {0x092dc0, 0x092dc0, KIND_HOPPER, RD, REG_CONST, 0},
    {0x092de0, 0x092de8, KIND_HOPPER, RD, REG_CONST, 0},
    {0x820344, 0x820348, KIND_HOPPER | KIND_BLACKWELL, RD, REG_CONST, 0x10de10de},
    {0x021200, 0x0212fc, KIND_HOPPER | KIND_BLACKWELL, RD, REG_CONST, 0},
    {0x0284e0, 0x02851c, KIND_SWITCH, RD, REG_CONST, 0},
    {0x00d740, 0x00d740, KIND_SWITCH, RW, REG_CONST, 0},
};

static const struct reg_range *find(const struct device *d, uint32_t at, enum rw rw)
{
    for (size_t i = 0; i < sizeof registers / sizeof *registers; i++) {
        const struct reg_range *r = &registers[i];
        if (at >= r->first && at <= r->last && r->kinds & d->kind && r->rw & rw)
            return r;
    }
    return NULL;
}

/* Architecture and implementation of PMC_BOOT_0, revision A1 (open-gpu-kernel-modules dev_boot.h, kern_gpu_*.c) */
static uint32_t boot0(const struct device *d)
{
    static const struct {
        uint16_t first, last;
        uint32_t value;
    } chips[] = {
        {0x22f0, 0x237f, 0x180000a1}, {0x2900, 0x297f, 0x1a0000a1}, {0x2980, 0x29ff, 0x1a2000a1},
        {0x3180, 0x31ff, 0x1a3000a1}, {0x3200, 0x327f, 0x1a4000a1}, {0x2b80, 0x2bff, 0x1b2000a1},
        {0x2c00, 0x2c7f, 0x1b3000a1}, {0x2f00, 0x2f7f, 0x1b5000a1}, {0x2d00, 0x2d7f, 0x1b6000a1},
        {0x2d80, 0x2dff, 0x1b7000a1}, {0x1e80, 0x1ebf, 0x164000a1},
    };
    if (d->kind == KIND_SWITCH)
        return 0x007000a1;
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (d->desc.device_id >= chips[i].first && d->desc.device_id <= chips[i].last)
            return chips[i].value;
    return 0x170000a1; /* GA100 */
}

static uint32_t boot_flag(struct state *s, const struct device *d)
{
    if (booted(s, d))
        return d->kind == KIND_OLD ? 0x3ff : 0xff;
    return d->faults[MODEL_FAULT_BOOT_BADF] ? BADF_BOOT : 0;
}

/* Link to the processor (Linux nvgrace-gpu: 0xff = ready); when it comes up is an estimate. Others have none. */
static uint32_t link_flag(struct state *s, const struct device *d)
{
    static const uint16_t grace[] = {0x2342, 0x2345, 0x2348, 0x2941};
    for (size_t i = 0; i < sizeof grace / sizeof *grace; i++)
        if (d->desc.device_id == grace[i])
            return booted(s, d) && now_ns(s) >= d->link_at ? 0xff : 0;
    return 0;
}

/* Before boot is complete the register reads 0 (estimate): who does not wait sees the wrong mode. */
static uint32_t mode_register(struct state *s, const struct device *d)
{
    if (!booted(s, d))
        return 0;
    return d->kind == KIND_SWITCH ? d->active / MODE_PPCIE_BIT : d->active;
}

/* Device table: three NVLink controllers of six links each on Hopper, eight links on Blackwell (type in bits 30:24) */
static uint32_t unit_row(const struct device *d, uint32_t row)
{
    if (d->kind & KIND_BLACKWELL)
        return 28u << 24 | row << 16;
    return row < 3 ? 18u << 24 | row << 16 : 0;
}

static uint32_t *scratch(struct device *d, enum reg reg)
{
    return reg == REG_SCRATCH_FLR ? &d->scratch_flr : &d->scratch_sbr;
}

static uint32_t read_register(struct state *s, struct device *d, const struct reg_range *r,
                              uint32_t at)
{
    switch (r->reg) {
    case REG_BOOT0:
        return d->faults[MODEL_FAULT_RECOVERY] && d->kind == KIND_HOPPER ? 0 : boot0(d);
    case REG_BOOT:
        return boot_flag(s, d);
    case REG_LINK:
        return link_flag(s, d);
    case REG_MODE:
        return mode_register(s, d);
    case REG_RECOVERY:
        return d->faults[MODEL_FAULT_RECOVERY] ? r->value : 0;
    case REG_SCRATCH_FLR:
    case REG_SCRATCH_SBR:
        return *scratch(d, r->reg);
    case REG_EMEM:
        return d->faults[MODEL_FAULT_PRIV_RING] ? MODEL_UNKNOWN : fsp_read(s, d, at);
    case REG_MNOC:
        return mnoc_read(s, d, at);
    case REG_UNITS:
        return unit_row(d, (at - r->first) / 4);
    case REG_PRIV_RING:
    case REG_SINK:
    case REG_CONST:
    default:
        return r->value;
    }
}

static void write_register(struct state *s, struct device *d, const struct reg_range *r,
                           uint32_t at, uint32_t v)
{
    if (r->reg == REG_SCRATCH_FLR || r->reg == REG_SCRATCH_SBR)
        *scratch(d, r->reg) = v;
    else if (r->reg == REG_PRIV_RING && v == PRIV_RING_START)
        d->faults[MODEL_FAULT_PRIV_RING] = 0;
    else if (r->reg == REG_EMEM)
        fsp_write(s, d, at, v);
    else if (r->reg == REG_MNOC)
        mnoc_write(s, d, at, v);
}

/* Is anybody there? Otherwise reads are all ones and writes vanish. */
static bool memory_answers(struct state *s, struct device *d)
{
    return config_answers(s, d) && d->power == MODEL_D0 && memory_on(d) &&
           !d->faults[MODEL_FAULT_MMIO_DEAD] && now_ns(s) >= d->firewall_at;
}

static void count_unknown(struct device *d, uint32_t at)
{
    d->counters.unknown++;
    d->counters.last_unknown = at;
}

static uint32_t bar0_read(struct state *s, struct device *d, uint32_t at)
{
    if (d->faults[MODEL_FAULT_SECURITY])
        return BADF_SECURITY;
    if (d->faults[MODEL_FAULT_PRIV_ERROR])
        return BADF_PRIV;
    const struct reg_range *r = find(d, at, RD);
    if (r)
        return read_register(s, d, r, at);
    count_unknown(d, at);
    return MODEL_UNKNOWN;
}

static void bar0_write(struct state *s, struct device *d, uint32_t at, uint32_t v)
{
    const struct reg_range *r = find(d, at, WR);
    if (!r)
        count_unknown(d, at);
    else if (!d->faults[MODEL_FAULT_SECURITY] && !d->faults[MODEL_FAULT_PRIV_ERROR])
        write_register(s, d, r, at, v);
}

static bool registers_of(const struct device *d, int bar)
{
    return bar == 0 && d->kind & KIND_NVIDIA;
}

uint32_t model_bar_read(struct model *m, int hw, int bar, uint64_t at)
{
    struct device *d = device_at(m, hw);
    if (!d || bar < 0 || bar > 5 || at % 4 || d->bars[bar].size < at + 4)
        return MODEL_ONES;
    lock(m);
    settle(m->s, d);
    uint32_t v = MODEL_ONES;
    if (memory_answers(m->s, d))
        v = registers_of(d, bar) ? bar0_read(m->s, d, (uint32_t)at) : 0;
    d->counters.reads++;
    trace(m->s, d, 'R', (unsigned)bar, (uint32_t)at, v);
    unlock(m);
    return v;
}

void model_bar_write(struct model *m, int hw, int bar, uint64_t at, uint32_t v)
{
    struct device *d = device_at(m, hw);
    if (!d || bar < 0 || bar > 5 || at % 4 || d->bars[bar].size < at + 4)
        return;
    lock(m);
    settle(m->s, d);
    d->counters.writes++;
    trace(m->s, d, 'W', (unsigned)bar, (uint32_t)at, v);
    if (memory_answers(m->s, d) && registers_of(d, bar))
        bar0_write(m->s, d, (uint32_t)at, v);
    unlock(m);
}
