#include "device-plugin/preferred.h"

#include <stdint.h>
#include <string.h>

#include "base/auto.h"

/* One pair; the weights keep the three kinds apart for up to 256 devices (256 * 256 pairs < 2^16). */
static uint64_t nearness(const struct dp_device *a, const struct dp_device *b)
{
    uint64_t sum = 0;
    if (a->partition[0] && strcmp(a->partition, b->partition) == 0)
        sum += UINT64_C(1) << 40;
    if (a->numa_node >= 0 && a->numa_node == b->numa_node)
        sum += UINT64_C(1) << 20;
    if (a->pcie_switch[0] && strcmp(a->pcie_switch, b->pcie_switch) == 0)
        sum += 1;
    return sum;
}

struct search {
    const struct offer *offer;
    const enum preferred_state *given;
    size_t size;
    /* the set that is being built */
    bool taken[DP_MAX_DEVICES];
    uint64_t inner[DP_MAX_DEVICES]; /* nearness of each to the set so far */
    uint64_t outer[DP_MAX_DEVICES]; /* nearness of each to all free ones */
    size_t n;
    uint64_t inside;
};

static void add(struct search *s, size_t i)
{
    s->inside += s->inner[i];
    s->taken[i] = true;
    s->n++;
    for (size_t k = 0; k < s->offer->n; k++)
        if (k != i)
            s->inner[k] += nearness(&s->offer->devices[i], &s->offer->devices[k]);
}

static void begin(struct search *s)
{
    memset(s->taken, 0, sizeof s->taken);
    memset(s->inner, 0, sizeof s->inner);
    s->n = 0;
    s->inside = 0;
    for (size_t i = 0; i < s->offer->n; i++)
        if (s->given[i] == PREFERRED_TAKEN)
            add(s, i);
}

/* The nearest to the set; among equals the one with the fewest near ones besides; then the lowest address. */
static bool best_next(const struct search *s, size_t *ret)
{
    bool found = false;
    for (size_t i = 0; i < s->offer->n; i++) {
        if (s->taken[i] || s->given[i] != PREFERRED_FREE)
            continue;
        if (!found || s->inner[i] > s->inner[*ret] ||
            (s->inner[i] == s->inner[*ret] && s->outer[i] < s->outer[*ret])) {
            *ret = i;
            found = true;
        }
    }
    return found;
}

static void fill(struct search *s)
{
    size_t i = 0;
    while (s->n < s->size && best_next(s, &i))
        add(s, i);
}

/* Nearness between those taken and those left over. */
static uint64_t torn(const struct search *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->offer->n; i++)
        if (!s->taken[i] && s->given[i] == PREFERRED_FREE)
            sum += s->inner[i];
    return sum;
}

void preferred(const struct offer *offer, enum preferred_state state[DP_MAX_DEVICES], size_t size)
{
    AUTO_FREE struct search *s = xcalloc(1, sizeof *s);
    bool best[DP_MAX_DEVICES] = {false};
    uint64_t best_inside = 0, best_torn = 0;
    bool any = false;
    *s = (struct search){.offer = offer, .given = state, .size = size};
    for (size_t i = 0; i < offer->n; i++)
        for (size_t k = 0; k < offer->n; k++)
            if (k != i && state[k] == PREFERRED_FREE)
                s->outer[i] += nearness(&offer->devices[i], &offer->devices[k]);
    for (size_t seed = 0; seed < offer->n; seed++) {
        if (state[seed] != PREFERRED_FREE)
            continue;
        begin(s);
        if (s->n >= size)
            return; /* what must be in is enough */
        add(s, seed);
        fill(s);
        uint64_t t = torn(s);
        if (!any || s->inside > best_inside || (s->inside == best_inside && t < best_torn)) {
            memcpy(best, s->taken, sizeof best);
            best_inside = s->inside;
            best_torn = t;
            any = true;
        }
    }
    for (size_t i = 0; any && i < offer->n; i++)
        if (best[i])
            state[i] = PREFERRED_TAKEN;
}
