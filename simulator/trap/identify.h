/* Which simulated file a descriptor is: by its path in /proc/PID/fd, which is the resolved one (…/devices/pci…/BDF/
 * resourceN below the real /sys or below a host root), and by being on FUSE or a stand-in character device. */
#ifndef CCN_SIMULATOR_TRAP_IDENTIFY_H
#define CCN_SIMULATOR_TRAP_IDENTIFY_H

#include <limits.h>
#include <stdbool.h>

#include "simulator/model/model.h"

enum file_kind {
    FILE_OTHER,
    FILE_RESOURCE, /* a resourceN */
    FILE_CONTAINER,
    FILE_GROUP,
    FILE_CDEV,
    FILE_IOMMUFD,
};
struct file_id {
    enum file_kind kind;
    int hw, bar;         /* FILE_RESOURCE, FILE_CDEV */
    int number;          /* FILE_GROUP */
    char root[PATH_MAX]; /* what comes before /dev/vfio: "" below ccnode-sim exec */
};

/* identify_link() - link is "/proc/PID/fd/N". Return: false when it is nothing of ours. */
bool identify_link(struct model *model, const char *link, struct file_id *ret);

#endif
