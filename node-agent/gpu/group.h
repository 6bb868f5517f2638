/* The IOMMU group of a device: everything in it is given to VFIO together, or not at all (M-VFIO-3). Reads sysfs. */
#ifndef CCN_GPU_GROUP_H
#define CCN_GPU_GROUP_H

#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

/* group_read() - number, nodes, companions and viability into @dev, whose bdf and class are set. What cannot be read
 * makes the group not viable, with the reason as its blocker. @dir_fd: the device's directory in sysfs. */
void group_read(const struct host *host, int dir_fd, struct nv_device *dev);

/* group_driver_is_vfio() - vfio-pci or a variant of it ("nvgrace-gpu-vfio-pci", "mlx5_vfio_pci", …) */
bool group_driver_is_vfio(const char *driver);

#endif
