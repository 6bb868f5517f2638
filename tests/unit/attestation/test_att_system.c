/* Devices of one run together: numbers, modes, protected-PCIe topology, each rule violated alone. */
#include "tests/unit/attestation/mint.h"

#include <stdio.h>
#include <string.h>

#include "attestation/system.h"
#include "base/auto.h"
#include "base/bytes.h"

#define GPUS 8
#define ALL 12

/* a machine made of nothing but what system_check() looks at */
struct machine {
    struct device devices[ALL];
    struct cert certs[ALL][2];
    uint8_t links[GPUS][144], pdi[4][8], gpus[4][128], lock[4][2];
    char ueid[ALL][8];
};

static void pdi_of(unsigned i, uint8_t ret[8])
{
    for (unsigned k = 0; k < 8; k++)
        ret[k] = (uint8_t)(16 * (i + 1) + k);
}

static void build(struct machine *m)
{
    *m = (struct machine){0};
    for (unsigned i = 0; i < ALL; i++) {
        struct device *d = &m->devices[i];
        bool gpu = i < GPUS;
        (void)snprintf(d->name, sizeof d->name, gpu ? "GPU-%u" : "SWITCH-%u", gpu ? i : i - GPUS);
        (void)snprintf(m->ueid[i], sizeof m->ueid[i], "%u", i);
        d->ueid = m->ueid[i];
        d->kind = gpu ? ATT_GPU : ATT_SWITCH;
        d->arch = gpu ? ARCH_HOPPER : ARCH_LS10;
        d->chain[0] = &m->certs[i][0];
        d->chain[1] = &m->certs[i][1];
        d->has_pdi = true;
        pdi_of(i, d->pdi);
        d->report.kind = d->kind;
        d->report.feature = gpu ? FEATURE_PPCIE : -1;
        d->report.pcie_locked = gpu;
        if (gpu) {
            for (unsigned l = 0; l < 16; l++) { /* two of eighteen links are disabled */
                uint8_t pdi[8];
                pdi_of(GPUS + l % 4, pdi);
                for (unsigned k = 0; k < 8; k++)
                    m->links[i][8 * l + k] = pdi[7 - k];
            }
            d->report.opaque[0] = (struct opaque){OPAQUE_PDI, 144, m->links[i]};
            d->report.n_opaque = 1;
        } else {
            unsigned s = i - GPUS;
            pdi_of(i, m->pdi[s]);
            for (unsigned g = 0; g < GPUS; g++)
                pdi_of((g + s) % GPUS, m->gpus[s] + 8 * (size_t)g);
            m->lock[s][0] = 1;
            d->report.opaque[0] = (struct opaque){OPAQUE_PDI, 8, m->pdi[s]};
            d->report.opaque[1] = (struct opaque){OPAQUE_GPU_PDIS, 128, m->gpus[s]};
            d->report.opaque[2] = (struct opaque){OPAQUE_LOCK, 2, m->lock[s]};
            d->report.n_opaque = 3;
        }
    }
}

static void whole(struct machine *m)
{
    (void)m;
}
static void foreign_switch(struct machine *m)
{
    m->links[3][0] ^= 1;
}
static void gpu_without_one_switch(struct machine *m)
{
    for (unsigned l = 0; l < 16; l++) /* links to switch 3 now lead to switch 0 */
        if (l % 4 == 3)
            memcpy(m->links[2] + 8 * (size_t)l, m->links[2], 8);
}
static void links_not_reversed(struct machine *m)
{
    for (unsigned l = 0; l < 16; l++)
        pdi_of(GPUS + l % 4, m->links[0] + 8 * (size_t)l);
}
static void foreign_gpu(struct machine *m)
{
    m->gpus[1][0] ^= 1;
}
static void switch_of_another_name(struct machine *m)
{
    m->pdi[2][0] ^= 1;
}
static void switch_certificate_without_pdi(struct machine *m)
{
    m->devices[GPUS].has_pdi = false;
}
static void gpu_certificate_without_pdi(struct machine *m)
{
    m->devices[4].has_pdi = false;
}
static void two_gpus_of_one_pdi(struct machine *m)
{
    memcpy(m->devices[4].pdi, m->devices[5].pdi, 8);
}
static void switch_not_locked(struct machine *m)
{
    m->lock[3][0] = 0;
}
static void switch_without_lock(struct machine *m)
{
    m->devices[9].report.n_opaque = 2;
}
static void one_gpu_single(struct machine *m)
{
    m->devices[7].report.feature = FEATURE_SPT;
}
static void all_gpus_multi(struct machine *m)
{
    for (unsigned i = 0; i < GPUS; i++)
        m->devices[i].report.feature = FEATURE_MPT;
}
static void one_gpu_unlocked(struct machine *m)
{
    m->devices[0].report.pcie_locked = false;
}
static void mixed_architectures(struct machine *m)
{
    m->devices[1].arch = ARCH_BLACKWELL;
}
static void same_leaf(struct machine *m)
{
    m->devices[1].chain[0] = m->devices[0].chain[0];
}
static void same_brom(struct machine *m)
{
    m->devices[11].chain[1] = m->devices[10].chain[1];
}
static void same_ueid(struct machine *m)
{
    m->devices[6].ueid = m->devices[2].ueid;
}

static const struct {
    const char *what;
    void (*change)(struct machine *m);
    unsigned from, n; /* devices looked at; n 0: all */
    struct att_options options;
    const char *rule;
} cases[] = {
    {"whole system", whole, 0, 0, {0}, NULL},
    {"as asked for", whole, 0, 0, {.gpus = 8, .switches = 4, .protected_pcie = true}, NULL},
    {"GPUs alone", whole, 0, 8, {0}, NULL},
    {"GPUs alone where the system is demanded",
     whole,
     0,
     8,
     {.protected_pcie = true},
     "topology.count"},
    {"one switch alone", whole, 8, 1, {0}, NULL},
    {"four switches alone", whole, 8, 4, {0}, NULL},
    {"three switches alone", whole, 8, 3, {0}, "topology.count"},
    {"seven GPUs", whole, 1, 11, {0}, "topology.count"},
    {"three switches", whole, 0, 11, {0}, "topology.count"},
    {"fewer GPUs than configured", whole, 0, 4, {.gpus = 8}, "system.count"},
    {"link to a foreign switch", foreign_switch, 0, 0, {0}, "topology.gpu"},
    {"GPU not linked to one switch", gpu_without_one_switch, 0, 0, {0}, "topology.gpu"},
    {"PDIs not byte reversed", links_not_reversed, 0, 0, {0}, "topology.gpu"},
    {"switch linked to a foreign GPU", foreign_gpu, 0, 0, {0}, "topology.switch"},
    {"switch that calls itself otherwise", switch_of_another_name, 0, 0, {0}, "topology.identity"},
    {"switch certificate without PDI",
     switch_certificate_without_pdi,
     0,
     0,
     {0},
     "topology.identity"},
    {"GPU certificate without PDI", gpu_certificate_without_pdi, 0, 0, {0}, "topology.identity"},
    {"two GPUs of one PDI", two_gpus_of_one_pdi, 0, 0, {0}, "topology.identity"},
    {"switch not locked", switch_not_locked, 0, 0, {0}, "topology.mode"},
    {"switch without lock status", switch_without_lock, 0, 0, {0}, "topology.mode"},
    {"one GPU for single passthrough", one_gpu_single, 0, 0, {0}, "system.mode"},
    {"all GPUs for multi passthrough", all_gpus_multi, 0, 0, {0}, "topology.mode"},
    {"one GPU not in protected PCIe", one_gpu_unlocked, 0, 0, {0}, "system.mode"},
    {"mixed architectures", mixed_architectures, 0, 0, {0}, "system.arch"},
    {"one leaf for two", same_leaf, 0, 0, {0}, "system.distinct"},
    {"one BROM certificate for two", same_brom, 0, 0, {0}, "system.distinct"},
    {"one UEID for two", same_ueid, 0, 0, {0}, "system.distinct"},
};

static void each_case(void **state)
{
    struct machine *m = xmalloc(sizeof *m);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct att_verdict *v = trail_new();
        build(m);
        cases[i].change(m);
        bool ok = system_check(&cases[i].options, m->devices + cases[i].from,
                               cases[i].n ? cases[i].n : ALL, v);
        if (ok != !cases[i].rule)
            fail_msg("%s: %d", cases[i].what, ok);
        mint_expect(v, cases[i].what, cases[i].rule);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
