/* Kernel modules: the best VFIO driver for a device, and loading it below the host root. */
#ifndef CCN_GPU_MODULES_H
#define CCN_GPU_MODULES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"

/**
 * modules_best_vfio() - among "alias vfio_pci:…" lines of modules.alias the one that fits with the fewest wildcards
 * (Linux 5.16 and later list variant drivers so; "vfio-pci" when nothing fits or the file is missing)
 * @modalias: of the device, "pci:v000010DEd00002342sv…"
 * @ret: module name as in the file, "nvgrace_gpu_vfio_pci"
 */
void modules_best_vfio(const struct host *host, const char *modalias, char *ret, size_t room);

/* modules_match_alias() - the same on the text of a modules.alias; pure, takes any bytes. Return: found. */
bool modules_match_alias(const char *text, size_t len, const char *modalias, char *ret,
                         size_t room);

/* modules_driver_dir() - name of the sysfs directory of a PCI driver, with "_" for "-" where that is how it is called.
 * Return: whether the driver is there. */
bool modules_driver_dir(const struct host *host, const char *driver, char *ret, size_t room);

/**
 * modules_load() - modprobe, found below and run with the host root
 * Return: 1 loaded now, 0 was there; -EINVAL not a module name; -ENOENT no modprobe; -EIO modprobe failed, with what
 * it said.
 */
int modules_load(const struct host *host, const char *name, struct err *err);

#endif
