/* Names of NVIDIA devices: chip, model, resource. Ids give names only; what a device can do is read from its registers
 * (design 3.7).
 *
 * The resource names are frozen: a database update must never rename a resource under running pods (M-NAME-1).
 * They follow the rule of the sandbox device plugin (pci.ids text in capitals, blanks to "_", other characters
 * dropped) as its users know them; sources: NVIDIA/gpu-admin-tools gpu/devid_chips.py and gpu/devid_names.py for
 * chips, pci.ids of 2025-07 and 2026 for texts. Pure.
 */
#ifndef CCN_GPU_NAMES_H
#define CCN_GPU_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

struct nv_model {
    uint16_t device_id;   /* vendor 10de */
    const char *name;     /* "H100 PCIe" */
    const char *resource; /* "GH100_H100_PCIE"; unique in the table, at most 63 characters */
};

/* names_table() - all models, by device id */
const struct nv_model *names_table(size_t *n);
/* names_find() - Return: the row, or NULL for an unlisted id. */
const struct nv_model *names_find(uint16_t device_id);

/* An id that came after this table: what the device can do is read from its registers all the same. */
#define CHIP_UNLISTED "unlisted"

/* names_chip() - "gh100", "gb100", …, "ls10"; "" for chips without CC. A switch is told by its class. */
const char *names_chip(enum nv_kind kind, uint16_t device_id);

/* names_format() - the rule above: pci.ids text into a resource name. Return: 0, -EINVAL when what is left is no name. */
int names_format(const char *text, char *ret, size_t room, struct err *err);

/* names_generic() - name and resource of a model nobody knows: "GPU_10DE_2FFF", "NVSWITCH_10DE_22FF" */
void names_generic(struct nv_device *dev);

#endif
