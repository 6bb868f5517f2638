/* Configuration space: contents, write masks, and what writing does.
 *
 * Hopper follows a real H100 SXM (capability offsets and values as read on hardware; those the hypervisor hid there,
 * at 0x100, 0x134, 0x248 and 0x250, by the driver's register manual). The others are the same layout with what the
 * driver and NVIDIA's tool need; where nothing is public the value is an estimate. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "simulator/model/state.h"

/* PCI Express base specification 7.5 */
#define COMMAND 0x04
#define COMMAND_MEMORY 0x0002
#define STATUS_CAPS 0x0010
#define BRIDGE_CONTROL 0x3e
#define BRIDGE_SBR 0x40
#define PMCSR 4
#define PMCSR_NO_SOFT_RESET 0x0008
#define DEVCAP 4
#define DEVCAP_FLR 0x10000000u
#define DEVCTL 8
#define DEVCTL_FLR 0x8000u
#define LNKSTA 0x12
#define LNKSTA_ACTIVE 0x2000u
#define SLTCTL 0x18
#define SLTSTA 0x1a
#define TYPE_ENDPOINT 0
#define TYPE_ROOT_PORT 4
#define TYPE_UPSTREAM 5
#define TYPE_DOWNSTREAM 6

#define DVSEC_FIREWALL 0x100000u /* bit 20 of DVSEC + 8 */
#define RETRY_ID 0xffff0001u     /* configuration request retry status, software visible */

uint32_t config_get(const struct device *d, unsigned at, unsigned n)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint32_t)d->config[at + i] << (8 * i);
    return v;
}

void config_put(struct device *d, unsigned at, unsigned n, uint32_t v)
{
    for (unsigned i = 0; i < n; i++)
        d->config[at + i] = (uint8_t)(v >> (8 * i));
}

static void writable(struct device *d, unsigned at, unsigned n, uint32_t mask)
{
    for (unsigned i = 0; i < n; i++)
        d->writable[at + i] = (uint8_t)(mask >> (8 * i));
}

static void write_clears(struct device *d, unsigned at, unsigned n, uint32_t mask)
{
    for (unsigned i = 0; i < n; i++)
        d->write_clears[at + i] = (uint8_t)(mask >> (8 * i));
}

/* --- contents -------------------------------------------------------------------------------------------------- */

static void put_bar(struct device *d, int i)
{
    const struct model_bar *bar = &d->bars[i];
    unsigned at = 0x10 + 4 * (unsigned)i;
    uint64_t mask = ~(bar->size - 1);
    config_put(d, at, 4, (uint32_t)bar->base | (bar->prefetch ? 0xc : 0));
    writable(d, at, 4, (uint32_t)mask);
    if (!bar->prefetch)
        return;
    config_put(d, at + 4, 4, (uint32_t)(bar->base >> 32));
    writable(d, at + 4, 4, (uint32_t)(mask >> 32));
}

static void add_bar(struct state *s, struct device *d, int i, uint64_t size, bool wide)
{
    uint64_t *next = wide ? &s->next_base64 : &s->next_base32;
    uint64_t base = (*next + size - 1) & ~(size - 1);
    *next = base + size;
    d->bars[i] = (struct model_bar){.base = base, .size = size, .prefetch = wide};
    if (!d->desc
             .vf) /* those of virtual functions are in the SR-IOV capability of the physical one */
        put_bar(d, i);
}

static uint64_t memory_bar(const struct device *d)
{
    switch (d->kind) {
    case KIND_GB10X:
        return 256ull << 30;
    case KIND_SWITCH:
        return 0;
    case KIND_HOPPER: /* 141 GB parts need the next power of two */
        return (d->desc.device_id == 0x2335 || d->desc.device_id == 0x233b ? 256ull : 128ull) << 30;
    default:
        return 128ull << 30;
    }
}

static void add_bars(struct state *s, struct device *d)
{
    if (d->kind == KIND_BRIDGE)
        return;
    if (d->kind == KIND_OTHER && !d->desc.vf) {
        bool audio = d->desc.class_code >> 8 == 0x0403;
        add_bar(s, d, 0, audio ? 16 << 10 : 32 << 20, !audio);
        return;
    }
    /* sizes of GH100 are measured; 64 MiB for Blackwell because documented registers lie that high */
    uint64_t size0 = d->kind & KIND_BLACKWELL ? 64 << 20
                     : d->kind == KIND_SWITCH ? 32 << 20
                                              : 16 << 20;
    if (d->kind == KIND_OLD) { /* BAR0 is 32 bits wide, so the others sit at 1 and 3 */
        add_bar(s, d, 0, size0, false);
        add_bar(s, d, 1, memory_bar(d), true);
        add_bar(s, d, 3, 32 << 20, true);
        return;
    }
    add_bar(s, d, 0, size0, true);
    if (memory_bar(d)) {
        add_bar(s, d, 2, memory_bar(d), true);
        add_bar(s, d, 4, 32 << 20, true);
    }
}

static void add_pm(struct device *d, unsigned at, unsigned next)
{
    d->cap_pm = (uint16_t)at;
    config_put(d, at, 2, 0x01 | next << 8);
    config_put(d, at + 2, 2, 0x0013);
    config_put(d, at + PMCSR, 2, PMCSR_NO_SOFT_RESET);
    writable(d, at + PMCSR, 2, 0x0003);
}

static void add_msi(struct device *d, unsigned at, unsigned next)
{
    config_put(d, at, 2, 0x05 | next << 8);
    config_put(d, at + 2, 2, 0x0388);
    writable(d, at + 2, 2, 0x0071);
    writable(d, at + 4, 4, 0xfffffffc);
    writable(d, at + 8, 4, 0xffffffff);
    writable(d, at + 12, 2, 0xffff);
}

static void add_pcie(struct device *d, unsigned at, unsigned next, unsigned type)
{
    bool port = type != TYPE_ENDPOINT, slot = type == TYPE_DOWNSTREAM;
    d->cap_pcie = (uint16_t)at;
    config_put(d, at, 2, 0x10 | next << 8);
    config_put(d, at + 2, 2, 0x0002 | type << 4 | (slot ? 0x100u : 0));
    config_put(d, at + DEVCAP, 4, 0x00008021 | (port ? 0 : DEVCAP_FLR));
    config_put(d, at + DEVCTL, 2, 0x513e);
    writable(d, at + DEVCTL, 2, 0x7fff);
    write_clears(d, at + DEVCTL + 2, 2, 0x000f);
    config_put(d, at + 0x0c, 4,
               0x00457905 | (port ? 0x00100000u : 0)); /* 32 GT/s x16; ports report link up */
    writable(d, at + 0x10, 2, 0x01fb);
    config_put(d, at + LNKSTA, 2, 0x1105 | (port ? LNKSTA_ACTIVE : 0));
    if (slot) {
        config_put(d, at + 0x14, 4, 0x00000040); /* hot-plug capable */
        writable(d, at + SLTCTL, 2, 0x17ff);
        config_put(d, at + SLTSTA, 2, 0x0040); /* occupied */
        write_clears(d, at + SLTSTA, 2, 0x011f);
    }
    config_put(d, at + 0x24, 4, 0x00070813);
    config_put(d, at + 0x28, 2, 0x1046);
    writable(d, at + 0x28, 2, 0x7fff);
    config_put(d, at + 0x2c, 4, 0x0180003e);
    config_put(d, at + 0x30, 2, 0x0005);
    writable(d, at + 0x30, 2, 0xffff);
    config_put(d, at + 0x32, 2, 0x005e);
}

static void add_msix(struct device *d, unsigned at)
{
    config_put(d, at, 4, 0x00080011);
    writable(d, at + 2, 2, 0xc000);
    config_put(d, at + 4, 4, 0x00b90000);
    config_put(d, at + 8, 4, 0x00ba0000);
}

static void extended(struct device *d, unsigned at, unsigned id, unsigned version, unsigned next)
{
    config_put(d, at, 4, id | version << 16 | next << 20);
}

static void add_aer(struct device *d, unsigned at, unsigned next)
{
    extended(d, at, 0x01, 2, next);
    write_clears(d, at + 4, 4, 0x07fff030);
    config_put(d, at + 8, 4, 0x00010000);
    writable(d, at + 8, 4, 0x07fff030);
    config_put(d, at + 12, 4, 0x004ef030);
    writable(d, at + 12, 4, 0x07fff030);
    write_clears(d, at + 16, 4, 0x0000f1c1);
    config_put(d, at + 20, 4, 0x0000e000);
    writable(d, at + 20, 4, 0x0000f1c1);
    config_put(d, at + 24, 4, 0x000000a0);
    writable(d, at + 24, 4, 0x00000140);
}

/* 0x100 is the secondary PCI Express capability: sixteen lanes of equalisation presets end at 0x12c */
static void add_extended_hopper(struct device *d)
{
    extended(d, 0x100, 0x19, 1, 0x12c);
    config_put(d, 0x108, 4, 0x2044);
    for (unsigned lane = 0; lane < 16; lane++)
        config_put(d, 0x10c + 2 * lane, 2, 0x7800);
    extended(d, 0x12c, 0x18, 1, 0x134);
    writable(d, 0x130, 4, 0x1fff1fff);
    extended(d, 0x134, 0x15, 1, 0x1b8); /* resizable BAR: one, of the size it has */
    config_put(d, 0x138, 4, 0x00200000);
    config_put(d, 0x13c, 4, 0x00001122);
    add_aer(d, 0x1b8, 0x250);
    extended(d, 0x250, 0x10, 1,
             0x2a4); /* SR-IOV without virtual functions: the driver must not enable any */
    extended(d, 0x2a4, 0x0b, 1, 0x2b8);
    config_put(d, 0x2a8, 4, 0x01410001);
    config_put(d, 0x2ac, 4, 0x00010002);
    d->fault_word = 0x2b4;
    extended(d, 0x2b8, 0x04, 1, 0x2f0);
    config_put(d, 0x2c0, 4, 0x00078121);
    config_put(d, 0x2c4, 4, 0x00000002);
    extended(d, 0x2f0, 0x03, 1, 0);
}

static void add_extended_blackwell(struct device *d)
{
    add_aer(d, 0x100, 0xaf0);
    extended(d, 0xaf0, 0x23, 1, 0);
    config_put(d, 0xaf4, 4, 0x01c010de);
    d->dvsec = 0xaf0;
    d->fault_word = 0xaf0 + 0x14;
}

static void add_bridge(struct state *s, struct device *d)
{
    const struct device *up = d->desc.parent >= 0 ? &s->devices[d->desc.parent] : NULL;
    unsigned type = TYPE_ROOT_PORT;
    if (up)
        type = (config_get(up, up->cap_pcie + 2u, 2) >> 4 & 0xf) == TYPE_UPSTREAM ? TYPE_DOWNSTREAM
                                                                                  : TYPE_UPSTREAM;
    d->config[0x0e] = 1;
    writable(d, 0x18, 4, 0x00ffffff);
    writable(d, 0x1c, 2, 0xf0f0);
    writable(d, 0x20, 4, 0xfff0fff0);
    config_put(d, 0x24, 4, 0x00010001);
    writable(d, 0x24, 4, 0xfff0fff0);
    writable(d, 0x28, 4, 0xffffffff);
    writable(d, 0x2c, 4, 0xffffffff);
    config_put(d, 0x3c, 2, 0x01ff);
    writable(d, 0x3c, 1, 0xff);
    writable(d, BRIDGE_CONTROL, 2, 0x007f);
    config_put(d, COMMAND, 2, 0x0107);
    d->config[0x34] = 0x40;
    add_pm(d, 0x40, 0x60);
    add_pcie(d, 0x60, 0, type);
    add_aer(d, 0x100, 0);
}

static unsigned bus_of(const struct device *d)
{
    unsigned domain = 0, bus = 0;
    return sscanf(d->desc.bdf, "%x:%x", &domain, &bus) == 2 ? bus & 0xff : 0;
}

void config_link_child(struct state *s, const struct device *child)
{
    unsigned bus = bus_of(child);
    for (int up = child->desc.parent; up >= 0; up = s->devices[up].desc.parent) {
        struct device *bridge = &s->devices[up];
        bridge->config[0x18] = (uint8_t)bus_of(bridge);
        if (bridge->config[0x19] == 0)
            bridge->config[0x19] = (uint8_t)bus;
        if (bridge->config[0x1a] < bus)
            bridge->config[0x1a] = (uint8_t)bus;
        bus = bridge->config[0x1a];
    }
}

void config_init(struct state *s, struct device *d)
{
    const struct model_desc *c = &d->desc;
    config_put(d, 0, 4, c->vf ? MODEL_ONES : c->vendor_id | (uint32_t)c->device_id << 16);
    config_put(d, 0x08, 4, c->revision | c->class_code << 8);
    config_put(d, 0x06, 2, STATUS_CAPS);
    writable(d, COMMAND, 2, 0x0547);
    write_clears(d, 0x06, 2, 0xf900);
    if (d->kind == KIND_BRIDGE) {
        add_bridge(s, d);
        return;
    }
    config_put(d, COMMAND, 2, 0x0103 & ~1u); /* memory on, from firmware */
    d->config[0x0e] = c->bdf[11] == '0' ? 0 : 0x80;
    config_put(d, 0x2c, 4, c->subsystem_vendor_id | (uint32_t)c->subsystem_device_id << 16);
    d->config[0x34] = 0x40;
    config_put(d, 0x3c, 2, c->vf ? 0x0000 : 0x01ff);
    writable(d, 0x3c, 1, 0xff);
    add_bars(s, d);
    add_pm(d, 0x40, 0x48);
    add_msi(d, 0x48, 0x60);
    add_pcie(d, 0x60, d->kind == KIND_OTHER ? 0 : 0xb0, TYPE_ENDPOINT);
    if (d->kind != KIND_OTHER)
        add_msix(d, 0xb0);
    if (d->kind & (KIND_HOPPER | KIND_SWITCH))
        add_extended_hopper(d);
    else if (d->kind & KIND_BLACKWELL)
        add_extended_blackwell(d);
    else
        add_aer(d, 0x100, 0);
}

void config_reset(struct device *d)
{
    config_put(d, COMMAND, 2, 0);
    for (unsigned i = 0; i < 6; i++) {
        uint32_t keep = ~(uint32_t)0;
        for (unsigned k = 0; k < 4; k++)
            keep &= ~((uint32_t)d->writable[0x10 + 4 * i + k] << (8 * k));
        config_put(d, 0x10 + 4 * i, 4, config_get(d, 0x10 + 4 * i, 4) & keep);
    }
    config_put(d, d->cap_pm + PMCSR, 2, PMCSR_NO_SOFT_RESET);
    config_put(d, 0x4a, 2, config_get(d, 0x4a, 2) & ~1u); /* MSI off */
    config_put(d, d->cap_pcie + DEVCTL, 2, 0x2810);
    if (d->kind != KIND_OTHER)
        config_put(d, 0xb2, 2, config_get(d, 0xb2, 2) & ~0xc000u); /* MSI-X off */
}

bool memory_on(const struct device *d)
{
    return config_get(d, COMMAND, 2) & COMMAND_MEMORY;
}

/* --- accesses -------------------------------------------------------------------------------------------------- */

bool config_answers(struct state *s, struct device *d)
{
    return !device_gone(s, d) && d->power != MODEL_D3COLD && !d->held && !d->retrying &&
           now_ns(s) >= d->config_at;
}

/* link status: what the link trained to, where a fault says that it is less than it could be */
static uint32_t trained(const struct device *d, uint32_t v)
{
    uint32_t speed = (uint32_t)d->faults[MODEL_FAULT_LINK_SPEED] & 0xf;
    uint32_t width = (uint32_t)d->faults[MODEL_FAULT_LINK_WIDTH] & 0x3f;
    v = speed ? (v & ~(0xfu << 16)) | speed << 16 : v;
    return width ? (v & ~(0x3fu << 20)) | width << 20 : v;
}

/* registers whose value depends on more than what was written */
static uint32_t computed(struct state *s, const struct device *d, unsigned dword, uint32_t v)
{
    if (d->dvsec && dword == d->dvsec + 8u) {
        bool up = now_ns(s) < d->firewall_at || d->faults[MODEL_FAULT_FIREWALL_NEVER] > 1;
        return up ? v | DVSEC_FIREWALL : v;
    }
    if (d->fault_word && dword == d->fault_word && d->faults[MODEL_FAULT_SECURITY])
        return (uint32_t)d->faults[MODEL_FAULT_SECURITY];
    if (d->kind == KIND_BRIDGE && dword == d->cap_pcie + 0x10u &&
        (config_get(d, BRIDGE_CONTROL, 2) & BRIDGE_SBR || now_ns(s) < d->boot_at))
        return v & ~(LNKSTA_ACTIVE
                     << 16); /* the link is down while the reset is held, and trains afterwards */
    if (d->cap_pcie && dword == d->cap_pcie + 0x10u)
        return trained(d, v);
    return v;
}

static uint32_t read_dword(struct state *s, struct device *d, unsigned dword)
{
    if (device_gone(s, d) || d->power == MODEL_D3COLD || d->held)
        return MODEL_ONES;
    if (!config_answers(s, d))
        return dword == 0 ? RETRY_ID : MODEL_ONES;
    return computed(s, d, dword, config_get(d, dword, 4));
}

static bool bad_access(unsigned at, unsigned n)
{
    return (n != 1 && n != 2 && n != 4) || at % n || at >= CONFIG_BYTES;
}

static uint32_t ones(unsigned n)
{
    return n == 4 ? MODEL_ONES : (1u << (8 * n % 32)) - 1;
}

uint32_t model_config_read(struct model *m, int hw, unsigned at, unsigned n)
{
    struct device *d = device_at(m, hw);
    if (!d || bad_access(at, n))
        return n == 1 ? 0xff : n == 2 ? 0xffff : MODEL_ONES;
    lock(m);
    settle(m->s, d);
    uint32_t v = read_dword(m->s, d, at & ~3u) >> (8 * (at & 3)) & ones(n);
    d->counters.config_reads++;
    trace(m->s, d, 'r', 0, at, v);
    unlock(m);
    return v;
}

static void store(struct device *d, unsigned at, unsigned n, uint32_t v)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t b = (uint8_t)(v >> (8 * i)), mask = d->writable[at + i];
        uint8_t *p = &d->config[at + i];
        *p = (uint8_t)((*p & ~mask) | (b & mask));
        *p = (uint8_t)(*p & ~(b & d->write_clears[at + i]));
    }
}

static bool touches(unsigned at, unsigned n, unsigned byte)
{
    return byte >= at && byte < at + n;
}

/* D1 and D2 don't exist here: such a write is dropped (specification 7.5.2.2) */
static void write_pmcsr(struct device *d, uint32_t old)
{
    unsigned at = d->cap_pm + PMCSR;
    uint32_t wanted = config_get(d, at, 2) & 3;
    if (wanted == 1 || wanted == 2)
        config_put(d, at, 2, (config_get(d, at, 2) & ~3u) | (old & 3));
    else
        d->power = wanted == 0 ? MODEL_D0 : MODEL_D3HOT;
}

static void write_effects(struct state *s, struct device *d, unsigned at, unsigned n, uint32_t v,
                          uint32_t old_pmcsr, uint32_t old_control)
{
    if (touches(at, n, d->cap_pm + PMCSR))
        write_pmcsr(d, old_pmcsr);
    unsigned flr = d->cap_pcie + DEVCTL + 1u;
    if (touches(at, n, flr) && v >> (8 * (flr - at)) & (DEVCTL_FLR >> 8) &&
        config_get(d, d->cap_pcie + DEVCAP, 4) & DEVCAP_FLR)
        reset_device(s, d, MODEL_RESET_FLR);
    if (d->kind != KIND_BRIDGE || !touches(at, n, BRIDGE_CONTROL))
        return;
    bool was = old_control & BRIDGE_SBR, is = config_get(d, BRIDGE_CONTROL, 2) & BRIDGE_SBR;
    if (is && !was)
        reset_below(s, (int)(d - s->devices), true);
    else if (was && !is)
        release_below(s, (int)(d - s->devices));
}

int model_config_write(struct model *m, int hw, unsigned at, unsigned n, uint32_t v)
{
    struct device *d = device_at(m, hw);
    if (!d || bad_access(at, n))
        return -EINVAL;
    lock(m);
    settle(m->s, d);
    d->counters.config_writes++;
    trace(m->s, d, 'w', 0, at, v);
    if (config_answers(m->s, d)) {
        uint32_t pmcsr = config_get(d, d->cap_pm + PMCSR, 2);
        uint32_t control = config_get(d, BRIDGE_CONTROL, 2);
        store(d, at, n, v);
        write_effects(m->s, d, at, n, v, pmcsr, control);
    }
    unlock(m);
    return 0;
}
