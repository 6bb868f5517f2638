/* What happened to the modes of the devices, always recorded: truth for whoever watches what programs claim. */
#include <time.h>

#include "simulator/model/state.h"

static enum model_mode mode_of(uint32_t bits)
{
    return bits & MODE_PPCIE_BIT ? MODEL_MODE_PPCIE : (enum model_mode)(bits & 3);
}

void happened(struct state *s, const struct device *d, bool reset)
{
    uint16_t hw = (uint16_t)(d - s->devices);
    uint8_t pending = (uint8_t)mode_of(mode_of_knobs(d));
    uint8_t active = (uint8_t)mode_of(d->active);
    struct device *noted = &s->devices[hw];
    if (!reset && noted->noted_active == active && noted->noted_pending == pending)
        return;
    noted->noted_active = active;
    noted->noted_pending = pending;
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    int64_t now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    struct model_event *e = &s->events[s->happened++ % EVENT_ENTRIES];
    *e = (struct model_event){.number = s->happened,
                              .time_ns = now,
                              .booted_ns = reset ? now + (d->boot_at - now_ns(s)) : now,
                              .hw = hw,
                              .reset = reset,
                              .active = active,
                              .pending = pending};
}

int model_events_read(struct model *m, uint64_t *cursor, struct model_event *ret, size_t n)
{
    int got = 0;
    lock(m);
    struct state *s = m->s;
    uint64_t oldest = s->happened > EVENT_ENTRIES ? s->happened - EVENT_ENTRIES : 0;
    if (*cursor < oldest)
        *cursor = oldest;
    while ((size_t)got < n && *cursor < s->happened)
        ret[got++] = s->events[(*cursor)++ % EVENT_ENTRIES];
    unlock(m);
    return got;
}
