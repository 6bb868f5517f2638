/* Drivers of a device and of its companion functions (REF-P 8, REF-L 6.4, 6.8). Writes sysfs; blocking.
 * A device that someone uses is not taken from its driver; @seen_us as in users_refuse(). @dev as in inventory_read(): read
 * before anything is written, so its drivers are those of before. */
#ifndef CCN_GPU_BIND_H
#define CCN_GPU_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

struct binding_result {
    char driver[32];
    int group; /* -1 = none */
    char cdev[24];
};

/**
 * bind_unbind() - take the device and the functions of its slot from their drivers, until the links are gone
 * Refused while someone uses it. The write itself waits for users that came in between; the parent's deadline ends that.
 */
int bind_unbind(const struct host *host, const char *bdf, struct nv_device *dev, int64_t *seen_us,
                struct err *err);

/**
 * bind_driver() - give the device and the functions of its slot to a driver
 * @driver: "auto" for the best VFIO driver of each function, or a name, which companions share only when it is vfio-pci
 * For VFIO the IOMMU group must be viable; nothing is written before that is known. A missing driver is loaded.
 * Return: 0; -ENXIO no IOMMU group; -EADDRINUSE the group is not viable; -ENODEV the driver did not take it; -errno.
 */
int bind_driver(const struct host *host, const char *bdf, struct nv_device *dev, const char *driver,
                bool load_modules, int64_t *seen_us, struct binding_result *ret, struct err *err);

/**
 * bind_release() - back to the host: unbound from VFIO, host drivers probed, no override left
 * @driver: had it before and is asked first; "" = whoever takes it
 * Return: 0, also when no driver took it; -EEXIST the kernel's own rules gave it to VFIO again (vfio-pci ids=); -errno.
 */
int bind_release(const struct host *host, const char *bdf, struct nv_device *dev,
                 const char *driver, int64_t *seen_us, struct binding_result *ret, struct err *err);

#endif
