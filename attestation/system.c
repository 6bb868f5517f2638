#include "attestation/system.h"

#include <string.h>

#include "base/bytes.h"

#define LINKS 18 /* entries of a GPU's table, one per NVLink */

static bool check_distinct(const struct device *devices, size_t n, struct att_verdict *v)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (devices[i].chain[0] == devices[k].chain[0] ||
                devices[i].chain[1] == devices[k].chain[1] ||
                strcmp(devices[i].ueid, devices[k].ueid) == 0)
                return trail_fail(v, ATT_ERR_DEVICES, "system.distinct",
                                  "%s and %s are the same device", devices[k].name,
                                  devices[i].name);
    return trail_pass(v, "system.distinct", "%zu distinct devices", n);
}

static bool check_numbers(const struct att_options *o, unsigned gpus, unsigned switches,
                          struct att_verdict *v)
{
    if ((o->gpus && o->gpus != gpus) || (o->switches && o->switches != switches))
        return trail_fail(v, ATT_ERR_DEVICES, "system.count",
                          "%u GPUs and %u switches, %u and %u are expected (0: any)", gpus,
                          switches, o->gpus, o->switches);
    return true;
}

static bool check_uniform(const struct device *devices, size_t n, struct att_verdict *v)
{
    const struct device *first = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct device *d = &devices[i];
        if (d->kind != ATT_GPU)
            continue;
        if (first && first->arch != d->arch)
            return trail_fail(v, ATT_ERR_ARCH, "system.arch", "%s is %s, %s is %s", first->name,
                              arch_name(first->arch), d->name, arch_name(d->arch));
        if (first && (first->report.feature != d->report.feature ||
                      first->report.pcie_locked != d->report.pcie_locked))
            return trail_fail(v, ATT_ERR_MODE, "system.mode",
                              "%s and %s run in different modes (feature flags %d and %d)",
                              first->name, d->name, first->report.feature, d->report.feature);
        first = first ? first : d;
    }
    return true;
}

/* Sets of PDIs ---------------------------------------------------------------------------------------------------- */

struct pdi_set {
    uint8_t list[ATT_DEVICES_MAX][8];
    size_t n;
};

static bool set_has(const struct pdi_set *set, const uint8_t pdi[8])
{
    for (size_t i = 0; i < set->n; i++)
        if (memcmp(set->list[i], pdi, 8) == 0)
            return true;
    return false;
}

static void set_add(struct pdi_set *set, const uint8_t pdi[8])
{
    if (!set_has(set, pdi) && set->n < ATT_DEVICES_MAX)
        memcpy(set->list[set->n++], pdi, 8);
}

static bool set_equal(const struct pdi_set *a, const struct pdi_set *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (!set_has(b, a->list[i]))
            return false;
    return a->n == b->n;
}

static struct pdi_set certified(const struct device *devices, size_t n, enum att_kind kind)
{
    struct pdi_set set = {.n = 0};
    for (size_t i = 0; i < n; i++)
        if (devices[i].kind == kind && devices[i].has_pdi)
            set_add(&set, devices[i].pdi);
    return set;
}

/* a switch's list of 8 GPUs */
static struct pdi_set listed_gpus(const struct report *report)
{
    struct pdi_set set = {.n = 0};
    const struct opaque *o = report_opaque(report, OPAQUE_GPU_PDIS);
    for (size_t i = 0; o && i < PPCIE_GPUS; i++)
        set_add(&set, o->value + 8 * i);
    return set;
}

/* a GPU's list of switches, byte reversed, zero entries are disabled links */
static struct pdi_set listed_switches(const struct report *report)
{
    static const uint8_t none[8];
    struct pdi_set set = {.n = 0};
    const struct opaque *o = report_opaque(report, OPAQUE_PDI);
    for (size_t i = 0; o && i < LINKS; i++) {
        uint8_t pdi[8];
        for (size_t k = 0; k < 8; k++)
            pdi[k] = o->value[8 * i + 7 - k];
        if (memcmp(pdi, none, 8) != 0)
            set_add(&set, pdi);
    }
    return set;
}

/* Topology -------------------------------------------------------------------------------------------------------- */

static bool check_switch_identity(const struct device *devices, size_t n, struct att_verdict *v)
{
    for (size_t i = 0; i < n; i++) {
        const struct device *d = &devices[i];
        if (d->kind != ATT_SWITCH)
            continue;
        if (!d->has_pdi || memcmp(report_opaque(&d->report, OPAQUE_PDI)->value, d->pdi, 8) != 0)
            return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.identity",
                              "the report of %s names another PDI than its certificate", d->name);
    }
    return true;
}

static bool check_gpu_side(const struct device *d, const struct pdi_set *switches,
                           struct att_verdict *v)
{
    struct pdi_set seen = listed_switches(&d->report);
    if (!d->report.pcie_locked || d->report.feature != FEATURE_PPCIE)
        return trail_fail(v, ATT_ERR_MODE, "topology.mode",
                          "%s is not in protected-PCIe mode (status %s, feature flag %d)", d->name,
                          d->report.pcie_locked ? "enabled" : "disabled", d->report.feature);
    if (!set_equal(&seen, switches))
        return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.gpu",
                          "%s is linked to %zu switches, not to exactly the %zu that are here",
                          d->name, seen.n, switches->n);
    return true;
}

static bool check_switch_side(const struct device *d, const struct pdi_set *gpus,
                              struct att_verdict *v)
{
    struct pdi_set seen = listed_gpus(&d->report);
    const struct opaque *lock = report_opaque(&d->report, OPAQUE_LOCK);
    if (!lock || get_le16(lock->value) != 1)
        return trail_fail(v, ATT_ERR_MODE, "topology.mode", "%s is not locked", d->name);
    if (!set_equal(&seen, gpus))
        return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.switch",
                          "%s is linked to %zu GPUs, not to exactly the %zu that are here", d->name,
                          seen.n, gpus->n);
    return true;
}

static bool check_closed(const struct device *devices, size_t n, struct att_verdict *v)
{
    struct pdi_set gpus = certified(devices, n, ATT_GPU);
    struct pdi_set switches = certified(devices, n, ATT_SWITCH);
    if (gpus.n != PPCIE_GPUS || switches.n != PPCIE_SWITCHES)
        return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.identity",
                          "the certificates name %zu GPUs and %zu switches, %d and %d are expected",
                          gpus.n, switches.n, PPCIE_GPUS, PPCIE_SWITCHES);
    for (size_t i = 0; i < n; i++)
        if (devices[i].kind == ATT_GPU ? !check_gpu_side(&devices[i], &switches, v)
                                       : !check_switch_side(&devices[i], &gpus, v))
            return false;
    return trail_pass(v, "topology.closed",
                      "8 GPUs and 4 switches name one another, and their certificates agree");
}

bool system_check(const struct att_options *options, const struct device *devices, size_t n,
                  struct att_verdict *v)
{
    unsigned gpus = 0, switches = 0;
    for (size_t i = 0; i < n; i++)
        *(devices[i].kind == ATT_GPU ? &gpus : &switches) += 1;
    if (!check_distinct(devices, n, v) || !check_numbers(options, gpus, switches, v) ||
        !check_uniform(devices, n, v) || !check_switch_identity(devices, n, v))
        return false;
    /* switches are attested for the sake of a protected-PCIe system: a part of one proves nothing about the links */
    bool whole = options->protected_pcie || (gpus && switches) || switches > 1;
    if (whole && switches != PPCIE_SWITCHES)
        return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.count",
                          "%u switches, a protected-PCIe system has %d", switches, PPCIE_SWITCHES);
    if ((options->protected_pcie || (gpus && switches)) && gpus != PPCIE_GPUS)
        return trail_fail(v, ATT_ERR_TOPOLOGY, "topology.count",
                          "%u GPUs, a protected-PCIe system has %d", gpus, PPCIE_GPUS);
    if (gpus && switches)
        return check_closed(devices, n, v);
    for (size_t i = 0; i < n; i++)
        if (devices[i].report.feature == FEATURE_PPCIE)
            return trail_note(v, "topology.closed",
                              "GPUs in protected-PCIe mode without their switches: links not "
                              "checked");
    return true;
}
