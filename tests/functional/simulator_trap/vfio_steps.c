/* The VFIO calls of a virtual machine monitor, and each wrong order with the errno Linux gives for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client.h"

#define BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18) /* newer than these headers */

static int open_in(const char *root, const char *path)
{
    char full[512];
    (void)snprintf(full, sizeof full, "%s%s", root, path);
    return open(full, O_RDWR | O_CLOEXEC);
}

static int open_group(const char *root, const char *group)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/dev/vfio/%s", group);
    return open_in(root, path);
}

#define FAILS(call, error) CHECK((call) < 0 && errno == (error))

static sigjmp_buf bus_jump;

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(bus_jump, 1);
}

/* Return: whether reading raises SIGBUS */
static int raises_bus(volatile uint32_t *p)
{
    struct sigaction ours = {.sa_handler = on_bus}, old;
    int raised = 1;
    (void)sigaction(SIGBUS, &ours, &old);
    if (sigsetjmp(bus_jump, 1) == 0) {
        (void)*p;
        raised = 0;
    }
    (void)sigaction(SIGBUS, &old, NULL);
    return raised;
}

static void look_at_device(int device)
{
    struct vfio_device_info info = {.argsz = sizeof info};
    struct vfio_region_info bar0 = {.argsz = sizeof bar0, .index = 0},
                            config = {.argsz = sizeof config, .index = 7};
    uint32_t v = 0;
    uint16_t command = 0;
    CHECK(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0 && info.num_regions == 9 &&
          info.flags == 3);
    CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar0) == 0 && bar0.size == 16 << 20 &&
          bar0.flags == 7);
    CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0 && config.size == 4096);
    CHECK(config.offset == 0x70000000000ull);
    CHECK(pread(device, &v, 4, (off_t)config.offset) == 4 && v == 0x233110de);
    CHECK(pread(device, &v, 4, 0) == 4 && v == 0x180000a1);
    FAILS(pread(device, &v, 4, 16 << 20), EINVAL);
    volatile uint32_t *map = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    CHECK(map != MAP_FAILED && map[0] == 0x180000a1);
    CHECK(pread(device, &command, 2, (off_t)config.offset + 4) == 2 && command & 2);
    command &= (uint16_t)~2;
    CHECK(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2);
    FAILS(pread(device, &v, 4, 0), EIO);
    CHECK(raises_bus(map));
    command |= 2;
    CHECK(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2);
    CHECK(!raises_bus(map) && map[0] == 0x180000a1);
    map[0x1458 / 4] = 7;
    CHECK(ioctl(device, VFIO_DEVICE_RESET) == 0);
    CHECK(map[0] == 0x180000a1 && map[0x1458 / 4] == 0); /* the mapping stays valid */
    CHECK(munmap(PLAIN(map), 16 << 20) == 0);
}

static int open_device(const char *root, int group, const char *bdf)
{
    int container = open_in(root, "/dev/vfio/vfio");
    struct vfio_group_status status = {.argsz = sizeof status};
    CHECK(container >= 0 && ioctl(container, VFIO_GET_API_VERSION) == 0);
    CHECK(ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1);
    CHECK(ioctl(group, VFIO_GROUP_GET_STATUS, &status) == 0 &&
          status.flags == VFIO_GROUP_FLAGS_VIABLE);
    FAILS(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), EINVAL);
    FAILS(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf), EINVAL);
    CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
    FAILS(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf), EINVAL);
    CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
    CHECK(ioctl(group, VFIO_GROUP_GET_STATUS, &status) == 0 &&
          status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET);
    FAILS(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:ff:00.0"), ENODEV);
    int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
    CHECK(device >= 0);
    return device;
}

static void bus_reset(int device, int group)
{
    union {
        struct vfio_pci_hot_reset_info info;
        struct vfio_pci_hot_reset reset;
        uint32_t room[64];
    } u = {.info = {.argsz = sizeof u.info}};
    FAILS(ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u), ENOSPC);
    CHECK(u.info.count == 1);
    u.info.argsz = sizeof u;
    CHECK(ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u) == 0);
    CHECK(u.info.devices[0].group_id == 30 && u.info.devices[0].bus == 0x2a);
    u.reset = (struct vfio_pci_hot_reset){.argsz = sizeof u, .count = 1};
    u.reset.group_fds[0] = device; /* not a group */
    FAILS(ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, &u), EINVAL);
    u.reset.group_fds[0] = group;
    CHECK(ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, &u) == 0);
    uint32_t v = 0;
    CHECK(pread(device, &v, 4, 0) == 4 && v == 0x180000a1);
}

void legacy_vfio(const char *root, const char *group_name, const char *bdf)
{
    int group = open_group(root, group_name);
    CHECK(group >= 0);
    FAILS(open_group(root, group_name), EBUSY);
    int device = open_device(root, group, bdf);
    look_at_device(device);
    bus_reset(device, group);
    int second = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf), third = dup(second);
    CHECK(second >= 0 && third >= 0);
    CHECK(close(second) == 0 && close(device) == 0);
    uint32_t v = 0;
    CHECK(pread(third, &v, 4, 0) == 4 && v == 0x180000a1);
    CHECK(close(third) == 0);
    CHECK(close(group) == 0);
}

void hold_until_told(const char *root, const char *group_name, const char *bdf)
{
    char line[8];
    int device = open_device(root, open_group(root, group_name), bdf);
    volatile uint32_t *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, 0);
    CHECK(map != MAP_FAILED);
    CHECK(close(device) == 0); /* the mapping holds it */
    (void)printf("held\n");
    (void)fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
    CHECK(*map == 0x180000a1);
    CHECK(munmap(PLAIN(map), 4096) == 0);
    (void)printf("released\n");
    (void)fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
}

void cdev_vfio(const char *root, const char *node)
{
    struct {
        uint32_t argsz, flags;
        int32_t iommufd;
        uint32_t devid;
    } bind = {.argsz = sizeof bind};
    char path[64];
    uint32_t v = 0;
    struct vfio_device_info info = {.argsz = sizeof info};
    (void)snprintf(path, sizeof path, "/dev/vfio/devices/%s", node);
    int device = open_in(root, path), other = open_in(root, path);
    bind.iommufd = open_in(root, "/dev/iommu");
    CHECK(device >= 0 && other >= 0 && bind.iommufd >= 0);
    FAILS(ioctl(device, VFIO_DEVICE_GET_INFO, &info), EINVAL);
    FAILS(pread(device, &v, 4, 0), EINVAL);
    CHECK(ioctl(device, BIND_IOMMUFD, &bind) == 0 && bind.devid == 1);
    CHECK(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0);
    CHECK(pread(device, &v, 4, 0) == 4 && v == 0x180000a1);
    (void)close(device);
}
