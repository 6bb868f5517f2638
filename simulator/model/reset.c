/* Resets, boot, power, presence, and users through VFIO. */
#include <errno.h>
#include <string.h>

#include "simulator/model/state.h"

bool device_gone(struct state *s, const struct device *d)
{
    if (!d->plugged || d->faults[MODEL_FAULT_DEAD])
        return true;
    for (int up = d->desc.parent; up >= 0; up = s->devices[up].desc.parent)
        if (!s->devices[up].plugged || s->devices[up].faults[MODEL_FAULT_DEAD])
            return true;
    return false;
}

bool booted(struct state *s, const struct device *d)
{
    return !d->faults[MODEL_FAULT_BOOT_NEVER] && now_ns(s) >= d->boot_at;
}

uint32_t mode_of_knobs(const struct device *d)
{
    uint32_t cc = (d->knobs[KNOB_CCM] ? 1u : 0) | (d->knobs[KNOB_CCD] ? 2u : 0);
    bool ppcie = d->knobs[KNOB_PPCIE] && !d->desc.no_ppcie;
    switch (d->kind) {
    case KIND_HOPPER:
        return cc | (ppcie ? MODE_PPCIE_BIT : 0);
    case KIND_SWITCH:
        return ppcie ? MODE_PPCIE_BIT : 0;
    case KIND_GB10X:
    case KIND_GB20X:
        return cc | (d->knobs[KNOB_DECOUPLER] ? 4u : 0);
    default:
        return 0;
    }
}

void latch_mode(struct device *d)
{
    d->active = mode_of_knobs(d);
}

static uint32_t boot_delay(const struct state *s, const struct device *d)
{
    static const struct {
        uint32_t kind;
        enum model_delay delay;
    } delays[] = {{KIND_GB10X, MODEL_DELAY_BOOT_BLACKWELL},
                  {KIND_GB20X, MODEL_DELAY_BOOT_GB20X},
                  {KIND_SWITCH, MODEL_DELAY_BOOT_SWITCH}};
    uint32_t ms = s->delays[d->active ? MODEL_DELAY_BOOT_CC : MODEL_DELAY_BOOT];
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++)
        if (d->kind == delays[i].kind)
            ms = s->delays[delays[i].delay];
    return ms + (uint32_t)d->faults[MODEL_FAULT_BOOT_SLOW];
}

/* due times count from here; an SBR calls it again when the bridge lets go */
static void start_boot(struct state *s, struct device *d)
{
    d->config_at = due_in(s, s->delays[MODEL_DELAY_FLR] / 2);
    d->boot_at = due_in(s, boot_delay(s, d));
    d->link_at = due_in(s, boot_delay(s, d) + (uint32_t)d->faults[MODEL_FAULT_LINK_SLOW]);
    if (d->dvsec)
        d->firewall_at = d->faults[MODEL_FAULT_FIREWALL_NEVER]
                             ? INT64_MAX
                             : due_in(s, s->delays[MODEL_DELAY_FIREWALL]);
    if (d->faults[MODEL_FAULT_RETRY_FOREVER])
        d->retrying = true;
}

static void clear(struct device *d, int kind)
{
    config_reset(d);
    d->power = MODEL_D0;
    d->restore = false;
    d->scratch_flr = 0;
    d->blocked_links = 0;
    if (kind == MODEL_RESET_SBR) {
        if (d->faults[MODEL_FAULT_MMIO_DEAD] == 2)
            d->faults[MODEL_FAULT_MMIO_DEAD] = 0;
        d->scratch_sbr = 0;
        d->coupled = false;
    }
    fsp_reset(d);
}

void reset_device(struct state *s, struct device *d, int kind)
{
    if (d->kind == KIND_BRIDGE || device_gone(s, d))
        return;
    d->counters.resets++;
    if (kind == MODEL_RESET_FLR)
        d->counters.flr++;
    else
        d->counters.sbr++;
    trace(s, d, 'X', 0, (uint32_t)kind, 0);
    if (d->faults[MODEL_FAULT_RESET_NOOP])
        return;
    if (d->faults[MODEL_FAULT_VFIO_WEDGED] == 2)
        d->faults[MODEL_FAULT_VFIO_WEDGED] = 0;
    clear(d, kind);
    latch_mode(d);
    if (fault_take(d, MODEL_FAULT_MODE_LOST))
        d->active = 0;
    start_boot(s, d);
    happened(s, d, true);
}

static bool is_below(const struct state *s, const struct device *d, int bridge)
{
    int up = d->desc.parent;
    while (up >= 0 && up != bridge)
        up = s->devices[up].desc.parent;
    return up == bridge;
}

void reset_below(struct state *s, int bridge, bool hold)
{
    for (int i = 0; i < s->count; i++) {
        struct device *d = &s->devices[i];
        if (!is_below(s, d, bridge))
            continue;
        reset_device(s, d, MODEL_RESET_SBR);
        d->held = hold;
    }
}

/* The link trains for as long as what is below needs to answer: clients wait for the link, then read at once. */
void release_below(struct state *s, int bridge)
{
    s->devices[bridge].boot_at = due_in(s, s->delays[MODEL_DELAY_FLR] / 2);
    for (int i = 0; i < s->count; i++) {
        struct device *d = &s->devices[i];
        if (!is_below(s, d, bridge) || !d->held)
            continue;
        d->held = false;
        if (d->kind != KIND_BRIDGE && !d->faults[MODEL_FAULT_RESET_NOOP])
            start_boot(s, d);
    }
}

void model_reset(struct model *m, int hw, int kind)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    if (kind == MODEL_RESET_SBR && d->desc.parent >= 0 && d->kind != KIND_BRIDGE)
        reset_below(m->s, d->desc.parent, false);
    else if (kind == MODEL_RESET_SBR && d->kind == KIND_BRIDGE)
        reset_below(m->s, hw, false);
    else
        reset_device(m->s, d, kind);
    unlock(m);
}

/* --- what Linux keeps over a reset ------------------------------------------------------------------------------- */

void take_saved(const struct device *d, struct model_saved *saved)
{
    saved->command = config_get(d, 0x04, 2);
    saved->line = config_get(d, 0x3c, 1);
    for (unsigned i = 0; i < 6; i++)
        saved->bars[i] = config_get(d, 0x10 + 4 * i, 4);
}

void put_saved(struct device *d, const struct model_saved *saved)
{
    config_put(d, 0x04, 2, saved->command);
    config_put(d, 0x3c, 1, saved->line);
    if (d->kind == KIND_BRIDGE)
        return;
    for (unsigned i = 0; i < 6; i++)
        config_put(d, 0x10 + 4 * i, 4, saved->bars[i]);
}

bool model_config_ready(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return false;
    lock(m);
    settle(m->s, d);
    bool ready = config_answers(m->s, d);
    unlock(m);
    return ready;
}

void model_config_save(struct model *m, int hw, struct model_saved *s)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    if (config_answers(m->s, d))
        take_saved(d, s);
    else
        memset(s, 0xff, sizeof *s);
    unlock(m);
}

void model_config_restore(struct model *m, int hw, const struct model_saved *s)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    if (config_answers(m->s, d) && s->command != MODEL_ONES)
        put_saved(d, s);
    unlock(m);
}

void settle(struct state *s, struct device *d)
{
    if (d->restore && config_answers(s, d)) {
        d->restore = false;
        put_saved(d, &d->saved);
    }
    if (d->kind & KIND_EMEM)
        fsp_settle(s, d);
    else if (d->kind & KIND_BLACKWELL)
        mnoc_settle(s, d);
}

/* --- power and presence ---------------------------------------------------------------------------------------- */

/* From D3cold a real device boots anew; here it keeps its state (simplification: Linux would restore it). */
static void set_power(struct device *d, enum model_power p)
{
    unsigned at = d->cap_pm + 4u;
    d->power = p;
    if (d->cap_pm)
        config_put(d, at, 2, (config_get(d, at, 2) & ~3u) | (p == MODEL_D0 ? 0 : 3));
}

void model_plug(struct model *m, int hw, bool in)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    if (in && !d->plugged) {
        d->plugged = true;
        d->generation++;
        clear(d, MODEL_RESET_SBR);
        latch_mode(d);
        start_boot(m->s, d);
        for (int i = 0; i < 6;
             i++) /* the hot-plug driver assigns BARs; memory stays off (command 0) */
            if (d->bars[i].size && !d->desc.vf) {
                config_put(d, 0x10 + 4 * (unsigned)i, 4,
                           (uint32_t)d->bars[i].base | (d->bars[i].prefetch ? 0xc : 0));
                if (d->bars[i].prefetch)
                    config_put(d, 0x14 + 4 * (unsigned)i, 4, (uint32_t)(d->bars[i].base >> 32));
            }
    }
    d->plugged = in;
    unlock(m);
}

bool model_dead(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return true;
    lock(m);
    bool gone = device_gone(m->s, d);
    unlock(m);
    return gone;
}

/* --- VFIO ------------------------------------------------------------------------------------------------------ */

/* An FLR whose configuration comes back by itself: vfio-pci saves and restores it. */
static void vfio_reset(struct state *s, struct device *d, bool memory)
{
    struct model_saved saved;
    if (d->restore) /* an earlier FLR is still under way */
        saved = d->saved;
    else
        take_saved(d, &saved);
    saved.command = memory ? saved.command | 0x6 : saved.command & ~0x4u;
    reset_device(s, d, MODEL_RESET_FLR);
    d->saved = saved;
    d->restore = true;
}

static int opens(const struct device *d)
{
    int n = 0;
    for (int i = 0; i < STATE_USERS; i++)
        n += d->users[i].opens;
    return n;
}

static void last_closed(struct state *s, struct device *d)
{
    d->claimed = false;
    vfio_reset(s, d, false);
    d->power_before_open =
        d->power_before_open == MODEL_D3COLD ? MODEL_D3HOT : d->power_before_open;
    if (d->power_before_open != MODEL_D0)
        set_power(d, d->power_before_open);
}

/* users that died without closing */
static void reap(struct state *s, struct device *d)
{
    if (opens(d) == 0)
        return;
    for (int i = 0; i < STATE_USERS; i++) {
        struct user *u = &d->users[i];
        if (u->opens && process_started(u->pid) != u->started)
            *u = (struct user){0};
    }
    if (opens(d) > 0)
        return;
    last_closed(s, d);
    /* a process is gone only when its close() is over, and that waits until the device answers after the reset */
    d->config_at = now_ns(s);
    settle(s, d);
}

void model_set_power(struct model *m, int hw, enum model_power p)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    reap(m->s, d);
    if (opens(d) > 0) /* a user keeps it awake: this is what comes after him */
        d->power_before_open = p;
    else
        set_power(d, p);
    unlock(m);
}

static struct user *user_of(struct device *d, pid_t pid)
{
    for (int i = 0; i < STATE_USERS; i++)
        if (d->users[i].opens && d->users[i].pid == pid)
            return &d->users[i];
    return NULL;
}

static int open_locked(struct state *s, struct device *d, pid_t pid)
{
    struct user *u = user_of(d, pid);
    if (device_gone(s, d))
        return -EIO;
    for (int i = 0; !u && i < STATE_USERS; i++)
        if (!d->users[i].opens)
            u = &d->users[i];
    if (!u)
        return -EMFILE;
    if (opens(d) == 0) {
        d->power_before_open = d->power;
        set_power(d, MODEL_D0);
        vfio_reset(s, d, true);
    }
    if (!u->opens)
        *u = (struct user){.pid = pid, .started = process_started(pid)};
    u->opens++;
    return 0;
}

int model_vfio_open(struct model *m, int hw, pid_t pid)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return -ENODEV;
    lock(m);
    settle(m->s, d);
    reap(m->s, d);
    int r = open_locked(m->s, d, pid);
    unlock(m);
    return r;
}

void model_vfio_close(struct model *m, int hw, pid_t pid)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    struct user *u = user_of(d, pid);
    if (u && --u->opens == 0 && opens(d) == 0)
        last_closed(m->s, d);
    unlock(m);
}

void model_vfio_forget(struct model *m, int hw, pid_t pid)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    struct user *u = user_of(d, pid);
    if (u) {
        settle(m->s, d);
        *u = (struct user){0};
        if (opens(d) == 0)
            last_closed(m->s, d);
    }
    unlock(m);
}

void model_vfio_reset(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    settle(m->s, d);
    vfio_reset(m->s, d, true);
    unlock(m);
}

int model_vfio_opens(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return 0;
    lock(m);
    settle(m->s, d);
    reap(m->s, d);
    int n = opens(d);
    unlock(m);
    return n;
}

void model_vfio_claim(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return;
    lock(m);
    d->generation += !d->claimed;
    d->claimed = true;
    unlock(m);
}

bool model_vfio_claimed(struct model *m, int hw)
{
    return model_vfio_opens(m, hw) > 0 && device_at(m, hw)->claimed;
}

uint32_t model_map_generation(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    return d ? d->generation : 0;
}
