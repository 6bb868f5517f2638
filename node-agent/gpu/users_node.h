/* Recognises the device nodes and files of devices, whatever mount or container they are seen through: by device
 * number for character devices, by file system and inode for others. Inside the room. */
#ifndef CCN_GPU_USERS_NODE_H
#define CCN_GPU_USERS_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/host.h"
#include "node-agent/gpu/device.h"

struct node_id {
    bool there;
    bool sysfs; /* real sysfs: its inodes are the same in every mount */
    dev_t rdev, dev;
    ino_t ino;
};

struct node_table {
    struct {
        struct node_id group, cdev, resource0;
        int minor; /* of /dev/nvidiaN; -1 = not known */
    } of[NV_MAX_DEVICES];
    struct node_id nvidia[NV_MAX_DEVICES]; /* /dev/nvidia0, … */
};

void node_table_fill(struct node_table *table, const struct host *host,
                     const struct nv_device *devices, size_t n);

/* node_table_is_candidate() - could this path be one of them? Cheap. */
bool node_table_is_candidate(const char *path);

/* node_table_match() - which devices the file at @path with @st belongs to */
void node_table_match(const struct node_table *table, const char *path, const struct stat *st,
                      const struct nv_device *devices, size_t n, bool ret[NV_MAX_DEVICES]);

/* A line of /proc/PID/maps: "7f…-7f… rw-s 00000000 00:2a 1234    /dev/vfio/devices/vfio0". */
struct mapping {
    char range[40];
    unsigned major, minor; /* of the file system, not of the device that the node stands for */
    unsigned long inode;
    const char *name; /* inside the line; "" = none */
};
/* mapping_parse() - Return: false: it is of another form */
bool mapping_parse(const char *line, struct mapping *ret);

/* node_table_short_name() - "/dev/vfio/7", "resource0" of a path */
const char *node_table_short_name(const char *path);

#endif
