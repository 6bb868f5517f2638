#include "node-agent/gpu/bind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/group.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/modules.h"
#include "node-agent/gpu/sysfs.h"
#include "node-agent/gpu/users.h"

/* A function of the slot: the device itself or a companion that goes with it. */
struct function {
    char bdf[BDF_SIZE];
    char driver[32];
    char wanted[64]; /* to bind: the name of its folder in sysfs */
};

struct slot {
    size_t n;
    struct function functions[1 + NV_MAX_COMPANIONS]; /* the device first */
};

/* Companions in other slots are devices of their own: looked at for viability, never touched. */
static void find_slot(const struct nv_device *dev, struct slot *ret)
{
    *ret = (struct slot){.n = 1};
    memcpy(ret->functions[0].bdf, dev->bdf, BDF_SIZE);
    memcpy(ret->functions[0].driver, dev->driver, sizeof dev->driver);
    for (size_t i = 0; i < dev->n_companions; i++) {
        const struct nv_companion *c = &dev->companions[i];
        if (strncmp(c->bdf, dev->bdf, strlen("0000:18:00.")) != 0)
            continue;
        struct function *f = &ret->functions[ret->n++];
        memcpy(f->bdf, c->bdf, BDF_SIZE);
        memcpy(f->driver, c->driver, sizeof c->driver);
    }
}

static int open_device(const struct host *host, const char *bdf, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    int fd = host_open_dir(host, path, err);
    return fd == -ENOENT ? err_set(err, ENODEV, "%s is gone", bdf) : fd;
}

static int current_driver(const struct host *host, const char *bdf, char *ret, size_t room,
                          struct err *err)
{
    AUTO_CLOSE int fd = open_device(host, bdf, err);
    if (fd < 0)
        return fd;
    sysfs_link_name(fd, "driver", ret, room);
    return 0;
}

static int unbind_function(const struct host *host, const char *bdf, struct err *err)
{
    char left[32];
    AUTO_CLOSE int fd = open_device(host, bdf, err);
    if (fd < 0)
        return fd;
    int r = fs_write_attr(fd, "driver/unbind", bdf, err);
    /* no link or another driver's device: somebody else was faster, the link says how it ended */
    if (r < 0 && r != -ENOENT && r != -ENODEV)
        return err_wrap(err, r, "unbind %s", bdf);
    sysfs_link_name(fd, "driver", left, sizeof left);
    return *left ? err_set(err, EBUSY, "%s still has driver %s after unbind", bdf, left) : 0;
}

static int unbind_slot(const struct host *host, const struct nv_device *dev, int64_t *seen_us,
                       struct err *err)
{
    struct slot slot;
    find_slot(dev, &slot);
    int r = users_refuse(host, dev, seen_us, err);
    for (size_t i = 0; i < slot.n && r == 0; i++) {
        if (*slot.functions[i].driver)
            r = unbind_function(host, slot.functions[i].bdf, err);
    }
    return r;
}

int bind_unbind(const struct host *host, const char *bdf, struct nv_device *dev, int64_t *seen_us,
                struct err *err)
{
    int r = inventory_read(host, bdf, dev, err);
    return r < 0 ? r : unbind_slot(host, dev, seen_us, err);
}

/* "auto" for one function: its own best VFIO driver, since a variant driver knows only its own device. */
static int choose_driver(const struct host *host, const char *bdf, const char *wanted,
                         bool companion, char *ret, size_t room, struct err *err)
{
    char modalias[128];
    bool own = !companion || !group_driver_is_vfio(wanted);
    if (strcmp(wanted, "auto") != 0 && own) {
        sysfs_copy_name(wanted, ret, room);
        return *ret ? 0 : err_set(err, EINVAL, "'%.40s' is not the name of a driver", wanted);
    }
    AUTO_CLOSE int fd = open_device(host, bdf, err);
    if (fd < 0)
        return fd;
    sysfs_word(fd, "modalias", modalias, sizeof modalias);
    modules_best_vfio(host, modalias, ret, room);
    return 0;
}

/* Which driver each function gets, loaded if need be. */
static int choose_for(const struct host *host, struct function *f, const char *wanted,
                      bool companion, bool load_modules, struct err *err)
{
    char driver[64];
    int r = choose_driver(host, f->bdf, wanted, companion, driver, sizeof driver, err);
    if (r < 0)
        return r;
    bool there = modules_driver_dir(host, driver, f->wanted, sizeof f->wanted);
    if (!there && load_modules) {
        r = modules_load(host, driver, err);
        if (r < 0)
            return err_wrap(err, r, "load driver %s", driver);
        there = modules_driver_dir(host, driver, f->wanted, sizeof f->wanted);
    }
    return there ? 0 : err_set(err, ENODEV, "driver %s is not loaded", driver);
}

static int bind_function(const struct host *host, const struct function *f, struct err *err)
{
    const char *dir = f->wanted;
    char got[64];
    if (strcmp(f->driver, dir) == 0)
        return 0;
    int r = *f->driver ? unbind_function(host, f->bdf, err) : 0;
    AUTO_CLOSE int fd = r < 0 ? -1 : open_device(host, f->bdf, err);
    if (fd < 0)
        return r < 0 ? r : fd;
    r = fs_write_attr(fd, "driver_override", dir, err);
    if (r < 0)
        return err_wrap(err, r, "choose driver %s for %s", dir, f->bdf);
    AUTO_CLOSE int bus = host_open_dir(host, "/sys/bus/pci", err);
    r = bus < 0 ? bus : fs_write_attr(bus, "drivers_probe", f->bdf, err);
    if (r < 0)
        return err_wrap(err, r, "bind %s to %s", f->bdf, dir);
    sysfs_link_name(fd, "driver", got, sizeof got); /* a probe that did nothing succeeds as well */
    if (strcmp(got, dir) != 0)
        return err_set(err, ENODEV,
                       "%s was offered to driver %s, which did not take it (driver now: %s); see "
                       "the kernel log",
                       f->bdf, dir, *got ? got : "none");
    return 0;
}

static int check_viable(const struct nv_device *dev, const struct slot *slot, struct err *err)
{
    if (dev->iommu_group < 0)
        return err_set(err, ENXIO, "it is in no IOMMU group: the IOMMU is off");
    if (dev->group_viable)
        return 0;
    for (size_t i = 1; i < slot->n; i++) {
        size_t len = strlen(slot->functions[i].bdf);
        if (strncmp(dev->group_blocker, slot->functions[i].bdf, len) == 0)
            return 0; /* the blocker is a function that we bind along */
    }
    return err_set(err, EADDRINUSE, "its IOMMU group %d can't be given to VFIO because of %s",
                   dev->iommu_group, dev->group_blocker);
}

static int read_result(const struct host *host, const char *bdf, const struct nv_device *before,
                       struct binding_result *ret, struct err *err)
{
    struct nv_device dev = *before;
    int r = inventory_read(host, bdf, &dev, err);
    if (r < 0)
        return r;
    *ret = (struct binding_result){.group = dev.iommu_group};
    memcpy(ret->driver, dev.driver, sizeof dev.driver);
    memcpy(ret->cdev, dev.cdev, sizeof dev.cdev);
    if (dev.driver_is_vfio && !dev.group_node && !*dev.cdev)
        return err_set(err, ENOENT, "it is bound to %s, but /dev/vfio/%d did not appear",
                       dev.driver, dev.iommu_group);
    if (dev.driver_is_vfio && !dev.group_viable)
        return err_set(err, EADDRINUSE, "its IOMMU group %d is not usable because of %s",
                       dev.iommu_group, dev.group_blocker);
    return 0;
}

int bind_driver(const struct host *host, const char *bdf, struct nv_device *dev, const char *driver,
                bool load_modules, int64_t *seen_us, struct binding_result *ret, struct err *err)
{
    struct slot slot;
    bool vfio = strcmp(driver, "auto") == 0 || group_driver_is_vfio(driver);
    int r = inventory_read(host, bdf, dev, err);
    if (r < 0)
        return r;
    find_slot(dev, &slot);
    r = vfio ? check_viable(dev, &slot, err) : 0;
    bool unbinds = false; /* a device whose driver is the right one is not even looked at */
    for (size_t i = 0; i < slot.n && r == 0; i++) {
        struct function *f = &slot.functions[i];
        r = choose_for(host, f, driver, i > 0, load_modules, err);
        unbinds = unbinds || (*f->driver && strcmp(f->driver, f->wanted) != 0);
    }
    if (r == 0 && unbinds)
        r = users_refuse(host, dev, seen_us, err);
    for (size_t i = 0; i < slot.n && r == 0; i++)
        r = bind_function(host, &slot.functions[i], err);
    return r < 0 ? r : read_result(host, bdf, dev, ret, err);
}

static int probe(const struct host *host, const char *bdf, struct err *err)
{
    AUTO_CLOSE int bus = host_open_dir(host, "/sys/bus/pci", err);
    return bus < 0 ? bus : fs_write_attr(bus, "drivers_probe", bdf, err);
}

/* The driver of before is asked alone, since with vfio-pci's ids= the device would go where it comes from. */
static int release_function(const struct host *host, const struct function *f, const char *driver,
                            struct err *err)
{
    char now[32] = "";
    AUTO_CLOSE int fd = open_device(host, f->bdf, err);
    if (fd < 0)
        return fd;
    int r = fs_write_attr(fd, "driver_override", *driver ? driver : "\n", err);
    if (r == 0 && group_driver_is_vfio(f->driver))
        r = unbind_function(host, f->bdf, err);
    if (r == 0)
        r = probe(host, f->bdf, err);
    if (r < 0 || !*driver)
        return r;
    sysfs_link_name(fd, "driver", now, sizeof now);
    r = fs_write_attr(fd, "driver_override", "\n", err);
    return r < 0 || *now ? r : probe(host, f->bdf, err); /* not loaded: whoever takes it */
}

int bind_release(const struct host *host, const char *bdf, struct nv_device *dev,
                 const char *driver, int64_t *seen_us, struct binding_result *ret, struct err *err)
{
    struct slot slot;
    int r = inventory_read(host, bdf, dev, err);
    if (r < 0)
        return r;
    find_slot(dev, &slot);
    if (dev->driver_is_vfio || *dev->driver == '\0')
        r = users_refuse(host, dev, seen_us, err);
    for (size_t i = 0; i < slot.n && r == 0; i++)
        r = release_function(host, &slot.functions[i], i == 0 ? driver : "", err);
    char now[32];
    if (r == 0)
        r = current_driver(host, bdf, now, sizeof now, err);
    if (r < 0)
        return r;
    if (group_driver_is_vfio(now))
        return err_set(err, EEXIST, "it was given back and the kernel bound it to %s again", now);
    *ret = (struct binding_result){.group = dev->iommu_group};
    memcpy(ret->driver, now, sizeof now);
    return 0;
}
