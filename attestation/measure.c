#include "attestation/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NVDEC_INDEX 35

static const struct golden *active(const struct rim *rim, unsigned index)
{
    for (size_t i = 0; rim && i < rim->n_golden; i++)
        if (rim->golden[i].active && rim->golden[i].index == index)
            return &rim->golden[i];
    return NULL;
}

static bool equals_one(const struct rim *rim, const struct golden *g, const uint8_t *value)
{
    for (unsigned i = 0; i < g->n; i++)
        if (memcmp(rim->hashes[g->first + i], value, REPORT_DIGEST) == 0)
            return true;
    return false;
}

static bool find_conflict(const struct rim *driver, const struct rim *bios, struct att_verdict *v)
{
    for (unsigned i = 0; i < 255; i++)
        if (active(driver, i) && active(bios, i))
            return trail_fail(v, ATT_ERR_RIM_CONFLICT, "measurements.conflict",
                              "index %u is active in the driver RIM and in the VBIOS RIM", i);
    return true;
}

static bool say_mismatch(const struct comparison *c, struct att_verdict *v)
{
    char list[256];
    int at = 0;
    list[0] = 0;
    for (size_t i = 0; i < c->n && at < (int)sizeof list - 8; i++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%u", i ? "," : "", c->list[i].index);
    return trail_fail(v, ATT_ERR_RIM_MEASUREMENT, "measurements.match",
                      "%zu of %u differ from every golden value, starting from 0: [%s]", c->n,
                      c->compared, list);
}

bool measure_compare(const struct report *report, const struct rim *driver, const struct rim *bios,
                     struct comparison *ret, struct att_verdict *v)
{
    *ret = (struct comparison){0};
    ret->no_conflict = find_conflict(driver, bios, v);
    if (!ret->no_conflict)
        return false;
    for (unsigned i = 0; i < 255; i++) {
        const struct rim *rim = driver;
        const struct golden *g = active(driver, i);
        if (!g) {
            rim = bios;
            g = active(bios, i);
        }
        if (!g)
            continue;
        if (i == NVDEC_INDEX && report->kind == ATT_GPU && report->nvdec == STATUS_DISABLED) {
            ret->skipped++;
            continue;
        }
        ret->compared++;
        const uint8_t *value = report->block[i + 1];
        if (!value || !equals_one(rim, g, value))
            ret->list[ret->n++] = (struct mismatch){(uint8_t)i, rim == driver && driver,
                                                    rim->hashes[g->first], value};
    }
    if (ret->n)
        return say_mismatch(ret, v);
    if (ret->compared == 0)
        return trail_fail(v, ATT_ERR_RIM_MEASUREMENT, "measurements.match", "nothing was compared");
    ret->match = true;
    return trail_pass(v, "measurements.match", "%u measurements equal their golden values%s",
                      ret->compared, ret->skipped ? "; index 35 skipped, NVDEC0 is disabled" : "");
}
