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

static void add_member(const struct host *host, const char *bdf, struct nv_device *dev)
{
    struct err err = ERR_INIT;
    char path[64];
    uint32_t class_code = 0;
    struct nv_companion member = {0};
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, &err);
    if (dir_fd < 0 || sysfs_hex(dir_fd, "class", 0xffffff, &class_code, &err) < 0) {
        block(dev, bdf, "unreadable");
        return;
    }
    if (class_code >> 16 == 0x06 && class_code >> 8 != 0x0680)
        return; /* bridges belong to the kernel and do not matter; 0680 is an NVSwitch, an endpoint */
    (void)snprintf(member.bdf, sizeof member.bdf, "%.12s", bdf);
    member.class_code = class_code;
    sysfs_link_name(dir_fd, "driver", member.driver, sizeof member.driver);
    if (!is_harmless(member.driver))
        block(dev, bdf, member.driver);
    if (dev->n_companions == NV_MAX_COMPANIONS)
        block(dev, bdf, "too many functions in one group");
    else
        dev->companions[dev->n_companions++] = member;
}

static void read_members(const struct host *host, int dir_fd, struct nv_device *dev)
{
    int fd = openat(dir_fd, "iommu_group/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        block(dev, dev->bdf, "group unreadable");
        return;
    }
    /* bounded: the kernel cannot have more functions in one group than this */
    int limit = 4096;
    for (const struct dirent *e = readdir(dir); e && limit > 0; e = readdir(dir), limit--) {
        if (inventory_bdf_ok(e->d_name) && strcmp(e->d_name, dev->bdf) != 0)
            add_member(host, e->d_name, dev);
    }
}

/* vfio-dev/vfioN exists also on kernels without character devices; what counts is the node */
static void read_cdev(const struct host *host, int dir_fd, struct nv_device *dev)
{
    int fd = openat(dir_fd, "vfio-dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char node[64];
        if (strncmp(e->d_name, "vfio", 4) != 0 || sysfs_number(e->d_name + 4, 1000000) < 0)
            continue;
        (void)snprintf(node, sizeof node, "/dev/vfio/devices/%.20s", e->d_name);
        if (sysfs_exists(host, node))
            sysfs_copy_name(e->d_name, dev->cdev, sizeof dev->cdev);
        return;
    }
}

void group_read(const struct host *host, int dir_fd, struct nv_device *dev)
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
        return;
    }
    (void)snprintf(node, sizeof node, "/dev/vfio/%d", dev->iommu_group);
    dev->group_node = sysfs_exists(host, node);
    read_members(host, dir_fd, dev);
    if (dev->driver_is_vfio)
        read_cdev(host, dir_fd, dev);
}
