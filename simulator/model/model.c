/* Devices: kinds, how they start, how they are found.
 *
 * Estimates, made where nothing is public: delays (state.c), error codes of the FSP (prc.c), BAR sizes of Blackwell and
 * LS10 (config.c), processor sizes and diagnosis registers (mmio.c), the mode register before boot is complete. */
#include <errno.h>
#include <string.h>

#include "simulator/model/state.h"

static bool within(uint16_t id, uint16_t first, uint16_t last)
{
    return id >= first && id <= last;
}

/* Chips by device id: ranges of gpu-admin-tools gpu/devid_chips.py; LS10 by class and its ids */
static uint32_t kind_of(const struct model_desc *c)
{
    unsigned base = c->class_code >> 8;
    if (base == 0x0604)
        return KIND_BRIDGE;
    if (c->vendor_id != 0x10de || c->vf)
        return KIND_OTHER;
    if (base == 0x0680)
        return within(c->device_id, 0x22a0, 0x22af) ? KIND_SWITCH : KIND_OTHER;
    if (base != 0x0300 && base != 0x0302)
        return KIND_OTHER;
    if (within(c->device_id, 0x22f0, 0x237f))
        return KIND_HOPPER;
    if (within(c->device_id, 0x2900, 0x29ff) || within(c->device_id, 0x3180, 0x327f))
        return KIND_GB10X;
    if (within(c->device_id, 0x2b80, 0x2dff) || within(c->device_id, 0x2f00, 0x2f7f))
        return KIND_GB20X;
    return KIND_OLD;
}

static void first_knobs(struct device *d)
{
    static const uint8_t allowed[] = {1, 3, 5, 7, 9, 33, 35, 44, 46};
    for (size_t i = 0; i < sizeof allowed; i++)
        d->knobs[allowed[i]] = 1;
}

int model_add(struct model *m, const struct model_desc *desc, struct err *err)
{
    struct state *s = m->s;
    if (s->count == MODEL_MAX_DEVICES)
        return err_set(err, E2BIG, "%s: a simulated node has at most %d devices", desc->bdf,
                       MODEL_MAX_DEVICES);
    if (desc->parent >= s->count ||
        (desc->parent >= 0 && s->devices[desc->parent].kind != KIND_BRIDGE))
        return err_set(err, EINVAL, "%s: what it is below is not a bridge", desc->bdf);
    lock(m);
    struct device *d = &s->devices[s->count];
    d->desc = *desc;
    d->desc.bdf[sizeof d->desc.bdf - 1] = '\0';
    if (d->desc.parent < 0)
        d->desc.parent = -1;
    d->kind = kind_of(desc);
    d->plugged = true;
    first_knobs(d);
    config_init(s, d);
    config_link_child(s, d);
    int hw = s->count++;
    unlock(m);
    return hw;
}

int model_count(struct model *m)
{
    return m->s->count;
}

int model_find(struct model *m, const char *bdf)
{
    for (int i = 0; i < m->s->count; i++)
        if (strcmp(m->s->devices[i].desc.bdf, bdf) == 0)
            return i;
    return -1;
}

const struct model_desc *model_desc(struct model *m, int hw)
{
    const struct device *d = device_at(m, hw);
    return d ? &d->desc : NULL;
}

struct model_bar model_bar(struct model *m, int hw, int index)
{
    const struct device *d = device_at(m, hw);
    return d && index >= 0 && index < 6 ? d->bars[index] : (struct model_bar){0};
}

struct model_counters model_counters(struct model *m, int hw)
{
    struct model_counters c = {0};
    const struct device *d = device_at(m, hw);
    if (!d)
        return c;
    lock(m);
    c = d->counters;
    unlock(m);
    return c;
}
