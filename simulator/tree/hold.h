/* ccnode-sim ctl hold: a process that really has a device open, as a VM would. */
#ifndef CCN_SIMULATOR_TREE_HOLD_H
#define CCN_SIMULATOR_TREE_HOLD_H

#include <sys/types.h>

#include "base/err.h"

/**
 * hold_main() - the holder itself: opens, says "held", sleeps (or a limit of seconds), exits
 * argv: BDF HOW SECONDS; HOW is one of the words below. Runs with the trap preloaded.
 *   group      /dev/vfio/N only
 *   device     group, container and device, as QEMU does: the device is reset and awake
 *   cdev       /dev/vfio/devices/vfioN, bound to /dev/iommu as QEMU does: reset and awake
 *   cdev-open  /dev/vfio/devices/vfioN only: asleep, but its unbind waits
 *   resource0  maps BAR 0 through sysfs
 *   nvidia     /dev/nvidiaN
 */
int hold_main(const char *root, int argc, char **argv);

/* hold_start() - starts the holder in the background and waits until it holds.
 * Return: 0; -EIO with the holder's own words. */
int hold_start(const char *root, const char *bdf, const char *how, unsigned seconds, pid_t *ret,
               struct err *err);

struct holder {
    pid_t pid;
    const char *bdf, *how;
};
/* hold_each() - the holders of this node that run now; hold_release() - ends them (@bdf "": all) and waits.
 * Return: how many. */
int hold_each(const char *root, void (*cb)(void *arg, const struct holder *holder), void *arg);
int hold_release(const char *root, const char *bdf);

#endif
