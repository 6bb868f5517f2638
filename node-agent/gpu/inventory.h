/* What NVIDIA devices this host has: sysfs into struct nv_device, and the facts of the host that go with them.
 *
 * Reads sysfs only; touches no device, writes nothing, needs no privilege. Virtual functions, audio and USB functions
 * and bridges are no devices of ours; the other endpoints of a device's IOMMU group are its companions. sysfs is
 * taken as hostile: a file that is missing, garbage or unreadable makes its field empty ("" / -1 / false) and, where
 * the device cannot be identified without it, the device is left out and counted in `n_unreadable`; a device that
 * vanishes during the scan is left out. A model that names.h does not list has neither name nor resource: pci_ids.h.
 */
#ifndef CCN_GPU_INVENTORY_H
#define CCN_GPU_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"
#include "node-agent/gpu/functions.h"

struct nv_inventory {
    size_t n;
    struct nv_device devices[NV_MAX_DEVICES]; /* sorted by BDF */
    size_t n_unreadable;                      /* NVIDIA devices that could not be identified */
    char unreadable
        [256]; /* the first of them and why: "0000:18:00.0: read class: Input/output error" */
};

/**
 * inventory_scan() - all of them
 * @memory: what an earlier scan learned, zeroed before the first; NULL: nothing is known or kept. With it only what may
 *   change is read: drivers, groups, nodes. A numa_node that the administrator overwrites is then not seen.
 * Return: 0, also when there is none; -errno when /sys/bus/pci/devices cannot be listed (ENOENT: no PCI bus);
 * -E2BIG more than NV_MAX_DEVICES.
 */
int inventory_scan(const struct host *host, struct pci_functions *memory, struct nv_inventory *ret,
                   struct err *err);

/**
 * inventory_read() - one of them
 * @dev: in, what an earlier reading learned of it, or zeroes: what cannot change in a function's life is not read again
 * Return: 0, -ENODEV no such device, -EINVAL not an NVIDIA GPU or NVSwitch, -errno; @dev is as before then.
 */
int inventory_read(const struct host *host, const char *bdf, struct nv_device *dev,
                   struct err *err);

/* inventory_is_enabled() - sysfs "enable" not 0: someone has it open, or a driver runs it. false when unreadable. */
bool inventory_is_enabled(const struct host *host, const char *bdf);

/* inventory_bdf_ok() - "dddd:bb:dd.f", lower case hexadecimal digits; nothing else may become part of a path. */
bool inventory_bdf_ok(const char *text);

/* What the host says about itself. Empty or false = it does not say. */
struct host_facts {
    bool snp;          /* kvm_amd parameter sev_snp: the host can start SEV-SNP guests */
    bool tdx;          /* kvm_intel parameter tdx */
    char lockdown[24]; /* "none", "integrity", "confidentiality"; "" = kernel without lockdown */
    bool iommu;        /* at least one IOMMU group exists */
    char boot_id[40];  /* random per boot; "" = unreadable */
};
void host_facts_read(const struct host *host, struct host_facts *ret);
void host_lockdown(const struct host *host, char *ret, size_t room); /* as in host_facts */
/* host_release() - of the running kernel, "6.12.0-sim"; "" = unreadable. */
void host_release(const struct host *host, char *ret, size_t room);

#endif
