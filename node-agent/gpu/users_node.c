#include "node-agent/gpu/users_node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/sysfs.h"

static struct node_id look_up(const struct host *host, const char *path)
{
    struct err ignored = ERR_INIT;
    struct node_id id = {0};
    struct stat st;
    AUTO_CLOSE int fd = host_openat(host, path, O_PATH, &ignored);
    if (fd < 0 || fstat(fd, &st) < 0)
        return id;
    id.there = true;
    id.rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0;
    id.dev = st.st_dev;
    id.ino = st.st_ino;
    return id;
}

/* "Device Minor:   3" of the NVIDIA driver */
static int nvidia_minor(const struct host *host, const char *bdf)
{
    struct err ignored = ERR_INIT;
    char path[80];
    AUTO_FREE char *text = NULL;
    (void)snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%.12s/information", bdf);
    if (fs_read(host, path, 65536, &text, NULL, &ignored) < 0)
        return -1;
    char *at = strstr(text, "Device Minor:");
    if (!at)
        return -1;
    at += strlen("Device Minor:");
    at += strspn(at, " \t");
    at[strcspn(at, " \t\r\n")] = '\0';
    return sysfs_number(at, 256);
}

void node_table_fill(struct node_table *table, const struct host *host,
                     const struct nv_device *devices, size_t n)
{
    char path[96];
    bool nvidia = false, sysfs = sysfs_is_of_kernel(host);
    memset(table, 0, sizeof *table);
    for (size_t i = 0; i < n; i++) {
        const struct nv_device *dev = &devices[i];
        (void)snprintf(path, sizeof path, "/dev/vfio/%d", dev->iommu_group);
        if (dev->iommu_group >= 0)
            table->of[i].group = look_up(host, path);
        (void)snprintf(path, sizeof path, "/dev/vfio/devices/%s", dev->cdev);
        if (*dev->cdev)
            table->of[i].cdev = look_up(host, path);
        (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s/resource0", dev->bdf);
        table->of[i].resource0 = look_up(host, path);
        table->of[i].resource0.sysfs = sysfs;
        table->of[i].minor = dev->driver_is_vfio ? -1 : nvidia_minor(host, dev->bdf);
        nvidia = nvidia || (*dev->driver && !dev->driver_is_vfio) || table->of[i].minor >= 0;
    }
    for (unsigned i = 0; nvidia && i < NV_MAX_DEVICES; i++) {
        (void)snprintf(path, sizeof path, "/dev/nvidia%u", i);
        table->nvidia[i] = look_up(host, path);
    }
}

static const char *last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool node_table_is_candidate(const char *path)
{
    return strstr(path, "/dev/vfio/") || strstr(path, "/dev/nvidia") ||
           strcmp(last(path), "resource0") == 0 || strcmp(last(path), "resource0_wc") == 0;
}

const char *node_table_short_name(const char *path)
{
    const char *dev = strstr(path, "/dev/");
    return dev ? dev : last(path);
}

static bool is_same(const struct node_id *id, const struct stat *st)
{
    if (!id->there)
        return false;
    if (id->rdev && S_ISCHR(st->st_mode) && st->st_rdev == id->rdev)
        return true;
    return st->st_ino == id->ino && (st->st_dev == id->dev || id->sysfs);
}

/* Nodes of the host's NVIDIA driver: by minor where the driver tells it, else any of them counts for every device
 * that this driver has. A device without driver link may still be the driver's: an unbind that waits. */
static bool is_nvidia_user(const struct node_table *table, const char *path, const struct stat *st,
                           size_t device, bool bound)
{
    int minor = table->of[device].minor;
    if (strncmp(last(path), "nvidia", 6) != 0)
        return false;
    int number = sysfs_number(last(path) + strlen("nvidia"), NV_MAX_DEVICES);
    if (number < 0) /* nvidiactl, nvidia-uvm, nvidia-nvswitch0 */
        return bound && (S_ISCHR(st->st_mode) || st->st_dev == table->nvidia[0].dev);
    return is_same(&table->nvidia[number], st) && (minor == number || (minor < 0 && bound));
}

static bool is_vfio_user(const struct node_table *table, const char *path, const struct stat *st,
                         size_t device, const struct nv_device *dev)
{
    if (strstr(path, "/dev/vfio/devices/"))
        return *dev->cdev && strcmp(last(path), dev->cdev) == 0 &&
               is_same(&table->of[device].cdev, st);
    return sysfs_number(last(path), 1000000) == dev->iommu_group && dev->iommu_group >= 0 &&
           is_same(&table->of[device].group, st);
}

/* ".../0000:18:00.0/resource0" */
static bool is_resource_of(const char *path, const struct nv_device *dev)
{
    size_t n = (size_t)(last(path) - path);
    size_t len = strlen(dev->bdf);
    return n > len + 1 && path[n - 1] == '/' && memcmp(path + n - 1 - len, dev->bdf, len) == 0;
}

void node_table_match(const struct node_table *table, const char *path, const struct stat *st,
                      const struct nv_device *devices, size_t n, bool ret[NV_MAX_DEVICES])
{
    bool resource = strncmp(last(path), "resource0", 9) == 0;
    bool write_combined = strcmp(last(path), "resource0_wc") == 0;
    for (size_t i = 0; i < n; i++) {
        const struct nv_device *dev = &devices[i];
        if (resource)
            ret[i] = is_resource_of(path, dev) &&
                     (write_combined ? table->of[i].resource0.sysfs
                                     : is_same(&table->of[i].resource0, st));
        else
            ret[i] =
                is_vfio_user(table, path, st, i, dev) ||
                (!dev->driver_is_vfio && is_nvidia_user(table, path, st, i, *dev->driver != '\0'));
    }
}

bool mapping_parse(const char *line, struct mapping *ret)
{
    int at = 0;
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it; a line of another form is none of ours */
    if (sscanf(line, "%39s %*s %*s %x:%x %lu %n", ret->range, &ret->major, &ret->minor, &ret->inode,
               &at) < 4 ||
        at == 0 || strspn(ret->range, "0123456789abcdef-") != strlen(ret->range))
        return false;
    ret->name = line + at;
    return true;
}
