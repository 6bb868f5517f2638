/* Who uses a device (REF-L 6.7): processes with its VFIO group, its character device, /dev/nvidia*, its resource0 or
 * a mapping of one of these. No driver link does not mean that nobody does. */
#ifndef CCN_GPU_USERS_H
#define CCN_GPU_USERS_H

#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

/* Of each device NV_MAX_HOLDERS are named, so that one with many users (every CUDA process has nvidiactl open, for all
 * GPUs of the driver) never hides the users of another. */
#define USERS_MAX (NV_MAX_DEVICES * NV_MAX_HOLDERS)

struct user {
    char bdf[BDF_SIZE];
    struct nv_holder holder;
};

struct users {
    size_t n;
    struct user list[USERS_MAX];
};

/**
 * users_scan() - every process below /proc of the host
 * @devices: n devices to look for, as inventory_scan() gives them
 * Processes of this program itself (same executable file) are not users, and one of another image that has a device's
 * lock file open is none of that device.
 * Return: 0; -EACCES some process could not be looked at: then nothing is known; -errno.
 */
int users_scan(const struct host *host, const struct nv_device *devices, size_t n,
               struct users *ret, struct err *err);

#define USERS_FRESH_US 1000000

/**
 * users_refuse() - before a step that would harm a user
 * @seen_us: when somebody last looked at every process and found no user, by mmio_now_us(); 0 = never. Moved on by a search.
 * VFIO lets a group be opened once, and to try that costs one open(2). /proc is searched where the last look is older than
 * USERS_FRESH_US (registers mapped through resource0 show nowhere else), where a host driver has the device, and where the
 * group can't be tried.
 * Return: 0 nobody; -EBUSY naming who; -EACCES that can't be found out; -errno.
 */
int users_refuse(const struct host *host, const struct nv_device *dev, int64_t *seen_us,
                 struct err *err);

/* users_name() - add to an -EBUSY error who it is, if that can be found out. Return: -EBUSY. */
int users_name(const struct host *host, const struct nv_device *dev, struct err *err);

#endif
