/* What the files of the simulated VFIO share. */
#ifndef CCN_SIMULATOR_TRAP_VFIO_H
#define CCN_SIMULATOR_TRAP_VFIO_H

#include <limits.h>
#include <sys/types.h>

#include "simulator/trap/trap.h"

/* an open device: a memfd that VFIO_GROUP_GET_DEVICE_FD returned, or a bound character device */
struct handle {
    bool used;
    bool fd_open;
    int hw;
    dev_t dev;
    ino_t ino;
    char root[PATH_MAX]; /* of its node, see struct file_id */
};

/* vfio.c */
const struct handle *vfio_handle(int vfio);
int fail(int error); /* errno = error; Return: -1 */

/* vfio_sysfs.c */
bool on_vfio(const char *root, const char *bdf); /* bound to vfio-pci or a variant */
bool in_group(const char *root, int number, const char *bdf);
unsigned group_of(const char *root, const char *bdf); /* ~0u = none */
bool viable(const char *root, int number);

/* vfio_device.c */
/* wait_ready() - what Linux waits for after a reset. Return: false when the device did not come back. */
bool wait_ready(int hw);
int device_ioctl(int vfio, unsigned long request, void *arg);
ssize_t device_access(int vfio, void *buf, size_t n, uint64_t offset, bool write);

#endif
