/* The IOMMU group of a device: everything in it is given to VFIO together, or not at all (M-VFIO-3). Reads sysfs. */
#ifndef CCN_GPU_GROUP_H
#define CCN_GPU_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

/* group_read() - number, nodes, companions and viability into @dev, whose bdf and class are set. What cannot be read
 * makes the group not viable, with the reason as its blocker. @dir_fd: the device's directory in sysfs.
 * @before: the device as it was read last, or NULL. @same_members: no function of the host came or went since, so the
 * members of a group with the same number are the same; their drivers are read all the same.
 * Return: whether the members are known completely, and may be reused. */
bool group_read(const struct host *host, int dir_fd, const struct nv_device *before,
                bool same_members, struct nv_device *dev);

/* group_driver_is_vfio() - vfio-pci or a variant of it ("nvgrace-gpu-vfio-pci", "mlx5_vfio_pci", …) */
bool group_driver_is_vfio(const char *driver);

#endif
