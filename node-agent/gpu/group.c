#include "node-agent/gpu/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

bool group_driver_is_vfio(const char *driver)
{
    size_t n = strlen(driver);
    return n >= 8 &&
           (strcmp(driver + n - 8, "vfio-pci") == 0 || strcmp(driver + n - 8, "vfio_pci") == 0);
}

/* Drivers that a viable group may have beside VFIO's (Linux drivers/vfio/group.c and iommu "driver_managed_dma"). */
static bool is_harmless(const char *driver)
{
    return *driver == '\0' || group_driver_is_vfio(driver) || strcmp(driver, "pci-stub") == 0;
}

static void block(struct nv_device *dev, const char *bdf, const char *why)
{
    if (!dev->group_viable)
        return; /* the first is told */
    dev->group_viable = false;
    (void)snprintf(dev->group_blocker, sizeof dev->group_blocker, "%.12s (%.40s)", bdf, why);
}

/* Return: false when it is not known what the member is. */
static bool add_member(const struct host *host, const char *bdf, const struct nv_companion *known,
                       struct nv_device *dev)
{
    struct err err = ERR_INIT;
    char path[64];
    struct nv_companion member = {0};
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, &err);
    if (known)
        member.class_code = known->class_code;
    if (dir_fd < 0 ||
        (!known && sysfs_hex(dir_fd, "class", 0xffffff, &member.class_code, &err) < 0)) {
        block(dev, bdf, "unreadable");
        return false;
    }
    if (member.class_code >> 16 == 0x06 && member.class_code >> 8 != 0x0680)
        return true; /* bridges belong to the kernel and do not matter; 0680 is an NVSwitch, an endpoint */
    (void)snprintf(member.bdf, sizeof member.bdf, "%.12s", bdf);
    sysfs_link_name(dir_fd, "driver", member.driver, sizeof member.driver);
    if (!is_harmless(member.driver))
        block(dev, bdf, member.driver);
    if (dev->n_companions == NV_MAX_COMPANIONS) {
        block(dev, bdf, "too many functions in one group");
        return false;
    }
    dev->companions[dev->n_companions++] = member;
    return true;
}

static bool list_members(const struct host *host, int dir_fd, struct nv_device *dev)
{
    int fd = openat(dir_fd, "iommu_group/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        block(dev, dev->bdf, "group unreadable");
        return false;
    }
    /* bounded: the kernel cannot have more functions in one group than this */
    int limit = 4096;
    bool complete = true;
    for (const struct dirent *e = readdir(dir); e && limit > 0; e = readdir(dir), limit--) {
        if (inventory_bdf_ok(e->d_name) && strcmp(e->d_name, dev->bdf) != 0)
            complete = add_member(host, e->d_name, NULL, dev) && complete;
    }
    return complete && limit > 0;
}

static bool read_members(const struct host *host, int dir_fd, const struct nv_device *before,
                         bool same_members, struct nv_device *dev)
{
    bool complete = true;
    if (!before || !same_members || before->iommu_group != dev->iommu_group)
        return list_members(host, dir_fd, dev);
    for (size_t i = 0; i < before->n_companions; i++) {
        const struct nv_companion *member = &before->companions[i];
        complete = add_member(host, member->bdf, member, dev) && complete;
    }
    return complete;
}

/* The name it had is still its own: two names cannot be at the same time. */
static bool is_still(const struct host *host, int dir_fd, const char *cdev)
{
    char name[64], node[64];
    (void)snprintf(name, sizeof name, "vfio-dev/%.20s", cdev);
    (void)snprintf(node, sizeof node, "/dev/vfio/devices/%.20s", cdev);
    AUTO_CLOSE int fd = openat(dir_fd, name, O_PATH | O_CLOEXEC);
    return fd >= 0 && sysfs_exists(host, node);
}

/* vfio-dev/vfioN exists also on kernels without character devices; what counts is the node */
static void read_cdev(const struct host *host, int dir_fd, const struct nv_device *before,
                      struct nv_device *dev)
{
    char node[64];
    if (before && *before->cdev && is_still(host, dir_fd, before->cdev)) {
        memcpy(dev->cdev, before->cdev, sizeof dev->cdev);
        return;
    }
    if (!sysfs_exists(host, "/dev/vfio/devices"))
        return;
    int fd = openat(dir_fd, "vfio-dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (strncmp(e->d_name, "vfio", 4) != 0 || sysfs_number(e->d_name + 4, 1000000) < 0)
            continue;
        (void)snprintf(node, sizeof node, "/dev/vfio/devices/%.20s", e->d_name);
        if (sysfs_exists(host, node))
            sysfs_copy_name(e->d_name, dev->cdev, sizeof dev->cdev);
        return;
    }
}

bool group_read(const struct host *host, int dir_fd, const struct nv_device *before,
                bool same_members, struct nv_device *dev)
{
    char name[32], node[64];
    dev->iommu_group = -1;
    dev->group_node = false;
    dev->cdev[0] = '\0';
    dev->group_blocker[0] = '\0';
    dev->n_companions = 0;
    sysfs_link_name(dir_fd, "iommu_group", name, sizeof name);
    dev->iommu_group = sysfs_number(name, 1000000);
    dev->group_viable = dev->iommu_group >= 0;
    if (dev->iommu_group < 0) {
        (void)snprintf(dev->group_blocker, sizeof dev->group_blocker, "no IOMMU group");
        return false;
    }
    (void)snprintf(node, sizeof node, "/dev/vfio/%d", dev->iommu_group);
    dev->group_node = sysfs_exists(host, node);
    bool complete = read_members(host, dir_fd, before, same_members, dev);
    if (dev->driver_is_vfio)
        read_cdev(host, dir_fd, before, dev);
    return complete;
}
