/* Observed nodes made up for tests. */
#ifndef TEST_FAKE_NODE_H
#define TEST_FAKE_NODE_H

#include <stdio.h>
#include <string.h>

#include "node-agent/node_state.h"

#define ALL_MODES                                                                                  \
    (CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_ON) | CC_MODE_BIT(CC_MODE_DEVTOOLS) |          \
     CC_MODE_BIT(CC_MODE_PPCIE))
#define SWITCH_MODES (CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_PPCIE))

/* An idle device on vfio-pci whose registers say `off`. */
static inline struct observed_device *add_device(struct observed *node, enum nv_kind kind)
{
    struct observed_device *d = &node->devices[node->n];
    *d = (struct observed_device){
        .dev = {.kind = kind,
                .vendor_id = 0x10de,
                .device_id = kind == NV_KIND_GPU ? 0x2330 : 0x22a3,
                .driver_is_vfio = true,
                .numa_node = -1,
                .iommu_group = (int)node->n + 1,
                .group_viable = true},
        .knowledge = KNOWN_REGISTERS,
        .report = {.active = CC_MODE_OFF,
                   .pending = CC_MODE_OFF,
                   .capable_modes = kind == NV_KIND_GPU ? ALL_MODES : SWITCH_MODES,
                   .booted = true},
    };
    (void)snprintf(d->dev.bdf, sizeof d->dev.bdf, "0000:%02zx:00.0", 0x10 + node->n);
    (void)snprintf(d->dev.chip, sizeof d->dev.chip, "%s", kind == NV_KIND_GPU ? "gh100" : "ls10");
    (void)snprintf(d->dev.name, sizeof d->dev.name, "%s",
                   kind == NV_KIND_GPU ? "H100" : "NVSwitch");
    (void)snprintf(d->dev.driver, sizeof d->dev.driver, "vfio-pci");
    node->n++;
    return d;
}

static inline void make_node(struct observed *node, size_t gpus, size_t switches)
{
    *node =
        (struct observed){.holders_known = true, .pods_known = true, .snp = true, .iommu = true};
    (void)snprintf(node->boot_id, sizeof node->boot_id, "boot-1");
    for (size_t i = 0; i < gpus; i++)
        (void)add_device(node, NV_KIND_GPU);
    for (size_t i = 0; i < switches; i++)
        (void)add_device(node, NV_KIND_NVSWITCH);
}

static inline void set_mode(struct observed_device *d, enum cc_mode mode)
{
    d->report.active = d->report.pending = mode;
}

static inline void set_driver(struct observed_device *d, const char *driver)
{
    (void)snprintf(d->dev.driver, sizeof d->dev.driver, "%s", driver);
    d->dev.driver_is_vfio = strncmp(driver, "vfio", 4) == 0;
}

static inline void add_pod(struct observed_device *d, const char *name)
{
    (void)snprintf(d->pods[d->n_pods].namespace, sizeof d->pods[0].namespace, "ml");
    (void)snprintf(d->pods[d->n_pods].name, sizeof d->pods[0].name, "%s", name);
    d->n_pods++;
}

static inline void add_holder(struct observed_device *d, const char *comm, const char *what)
{
    struct nv_holder *h = &d->holders[d->n_holders++];
    h->pid = 4242;
    (void)snprintf(h->comm, sizeof h->comm, "%s", comm);
    (void)snprintf(h->what, sizeof h->what, "%s", what);
}

#endif
