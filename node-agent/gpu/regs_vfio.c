/* Registers through VFIO: works under kernel lockdown, and whoever has the device open has it alone.
 * Order and errors of the calls: Linux Documentation/driver-api/vfio.rst, REF-L 6.5 and 8. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/regs.h"

/* Linux 6.6 include/uapi/linux/vfio.h; Debian 12's headers are older */
struct bind_iommufd {
    uint32_t argsz, flags;
    int32_t iommufd;
    uint32_t out_devid;
};
#define DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct vfio_regs {
    struct regs regs;
    int container_fd, group_fd, device_fd; /* container_fd is /dev/iommu with a character device */
    uint64_t config_at;                    /* of configuration space in the device file */
    uint8_t *map;
};

static struct vfio_regs *of(struct regs *regs)
{
    return (struct vfio_regs *)regs;
}

static int vfio_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err)
{
    return mmio_read(of(regs)->map + at, ret, err);
}

static int vfio_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err)
{
    return mmio_write(of(regs)->map + at, v, err);
}

static int vfio_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret,
                            struct err *err)
{
    uint8_t b[4] = {0};
    ssize_t got = pread(of(regs)->device_fd, b, n, (off_t)(of(regs)->config_at + at));
    if (got < 0)
        return err_errno(err, "read configuration space at 0x%x through VFIO", at);
    if ((size_t)got != n)
        return err_set(err, EBADMSG, "configuration space ends before 0x%x", at + n);
    *ret = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return 0;
}

static int vfio_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v,
                             struct err *err)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    if (pwrite(of(regs)->device_fd, b, n, (off_t)(of(regs)->config_at + at)) != (ssize_t)n)
        return err_errno(err, "write configuration space at 0x%x through VFIO", at);
    return 0;
}

static int64_t vfio_now_us(struct regs *regs)
{
    (void)regs;
    return mmio_now_us();
}

static void vfio_pause_us(struct regs *regs, int64_t us)
{
    (void)regs;
    mmio_pause_us(us);
}

/* The mapping first: it keeps the device open by itself. */
static void vfio_close(struct regs *regs)
{
    struct vfio_regs *v = of(regs);
    if (v->map)
        (void)munmap(v->map, (size_t)regs->bar0_size);
    const int fds[] = {v->device_fd, v->group_fd, v->container_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    free(v);
}

static const struct regs_ops vfio_ops = {
    .name = "vfio",
    .read = vfio_read,
    .write = vfio_write,
    .config_read = vfio_config_read,
    .config_write = vfio_config_write,
    .now_us = vfio_now_us,
    .pause_us = vfio_pause_us,
    .close = vfio_close,
};

static int open_node(const struct host *host, const char *path, struct err *err)
{
    int fd = host_openat(host, path, O_RDWR, err);
    if (fd == -EPERM || fd == -EACCES)
        return err_set(err, EPERM,
                       "%s can't be opened: not permitted (the device cgroup of a container that "
                       "is not privileged)",
                       path);
    return fd == -EBUSY ? err_set(err, EBUSY, "%s is open in another process", path) : fd;
}

static int open_by_group(const struct host *host, const struct nv_device *dev, struct vfio_regs *v,
                         struct err *err)
{
    char path[48];
    struct vfio_group_status status = {.argsz = sizeof status};
    (void)snprintf(path, sizeof path, "/dev/vfio/%d", dev->iommu_group);
    v->container_fd = open_node(host, "/dev/vfio/vfio", err);
    v->group_fd = v->container_fd < 0 ? v->container_fd : open_node(host, path, err);
    if (v->group_fd < 0)
        return v->group_fd;
    if (ioctl(v->group_fd, VFIO_GROUP_GET_STATUS, &status) < 0)
        return err_errno(err, "ask for the state of %s", path);
    if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
        return err_set(err, EADDRINUSE, "IOMMU group %d is not viable", dev->iommu_group);
    if (ioctl(v->group_fd, VFIO_GROUP_SET_CONTAINER, &v->container_fd) < 0)
        return err_errno(err, "give %s a container", path);
    if (ioctl(v->container_fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
        return err_errno(err, "set the IOMMU of %s", path);
    v->device_fd = ioctl(v->group_fd, VFIO_GROUP_GET_DEVICE_FD, dev->bdf);
    return v->device_fd < 0 ? err_errno(err, "open the device through %s", path) : 0;
}

static int open_by_cdev(const struct host *host, const struct nv_device *dev, struct vfio_regs *v,
                        struct err *err)
{
    char path[64];
    struct bind_iommufd bind = {.argsz = sizeof bind};
    (void)snprintf(path, sizeof path, "/dev/vfio/devices/%s", dev->cdev);
    v->container_fd = open_node(host, "/dev/iommu", err);
    v->device_fd = v->container_fd < 0 ? v->container_fd : open_node(host, path, err);
    if (v->device_fd < 0)
        return v->device_fd;
    bind.iommufd = v->container_fd;
    if (ioctl(v->device_fd, DEVICE_BIND_IOMMUFD, &bind) == 0)
        return 0;
    /* EINVAL is what the kernel says when another process has bound it */
    if (errno == EBUSY || errno == EINVAL)
        return err_set(err, EBUSY, "%s is in use by another process", path);
    return err_errno(err, "open the device through %s", path);
}

static int map_regions(struct vfio_regs *v, struct err *err)
{
    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    struct vfio_region_info config = {.argsz = sizeof config,
                                      .index = VFIO_PCI_CONFIG_REGION_INDEX};
    if (ioctl(v->device_fd, VFIO_DEVICE_GET_REGION_INFO, &bar) < 0 ||
        ioctl(v->device_fd, VFIO_DEVICE_GET_REGION_INFO, &config) < 0)
        return err_errno(err, "ask VFIO for the regions of the device");
    if (bar.size == 0)
        return err_set(err, ENODEV, "BAR0 has no address; remove the device and rescan the bus");
    if (bar.size > 512ull << 20 || !(bar.flags & VFIO_REGION_INFO_FLAG_MMAP))
        return err_set(err, EBADMSG, "VFIO can't map BAR0 of 0x%llx bytes (flags 0x%x)",
                       (unsigned long long)bar.size, bar.flags);
    void *map = mmap(NULL, (size_t)bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, v->device_fd,
                     (off_t)bar.offset);
    if (map == MAP_FAILED)
        return err_errno(err, "map BAR0 through VFIO");
    v->map = map;
    v->regs.bar0_size = bar.size;
    v->config_at = config.offset;
    return 0;
}

int regs_open_vfio(const struct host *host, const struct nv_device *dev, struct regs **ret,
                   struct err *err)
{
    struct vfio_regs *v = xcalloc(1, sizeof *v);
    *v = (struct vfio_regs){{&vfio_ops, 0}, -1, -1, -1, 0, NULL};
    int r = dev->group_node ? open_by_group(host, dev, v, err)
            : *dev->cdev    ? open_by_cdev(host, dev, v, err)
                            : err_set(err, ENOENT, "the device has no VFIO node");
    if (r == 0)
        r = map_regions(v, err);
    if (r < 0) {
        vfio_close(&v->regs);
        return r;
    }
    *ret = &v->regs;
    return 0;
}
