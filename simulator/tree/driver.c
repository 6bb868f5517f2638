/* Drivers: bind, unbind, new_id, drivers_probe, and the waiting that goes with them. Facts: kernel-tier tables 6.4
 * and 6.8 of the reference; Linux drivers/base/bus.c and dd.c for the order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulator/tree/kernel.h"

/* Users of a VFIO device live in other processes and count in shared memory: looked at this often while waiting. */
#define USERS_POLL_NS 10000000

struct driver *driver_find(const char *name)
{
    for (size_t i = 0; i < kernel.n_drivers; i++)
        if (strcmp(kernel.drivers[i].name, name) == 0)
            return &kernel.drivers[i];
    return NULL;
}

static bool id_listed(const struct driver *drv, uint32_t id)
{
    for (size_t i = 0; i < drv->n_ids; i++)
        if (drv->ids[i] == id)
            return true;
    return false;
}

static uint32_t id_of(const struct pdev *dev)
{
    return (uint32_t)model_config_read(kernel.model, dev->hw, 0, 2) << 16 |
           (uint32_t)model_config_read(kernel.model, dev->hw, 2, 2);
}

static bool matches(const struct driver *drv, const struct pdev *dev)
{
    if (*dev->override)
        return strcmp(dev->override, drv->name) == 0;
    const struct model_desc *d = model_desc(kernel.model, dev->hw);
    uint32_t class = d->class_code >> 8;
    if (strcmp(drv->name, "nvidia") == 0 && d->vendor_id == 0x10de && class >> 8 == 0x03)
        return true;
    if (strcmp(drv->name, "snd_hda_intel") == 0 && class == 0x0403)
        return true;
    return id_listed(drv, id_of(dev));
}

static void link_driver(struct pdev *dev, struct driver *drv)
{
    dev->driver = drv;
    dev->driver_link = node_link(dev->dir, "driver", drv->dir);
    dev->driver_dev_link = node_link(drv->dir, dev->bdf, dev->dir);
    node_remove(node_find(dev->dir, "waiting_for_supplier"));
}

/* Linux iommu_device_use_default_domain(): a host driver is kept out of a group that VFIO has opened */
static bool group_claimed(const struct pdev *dev)
{
    for (size_t i = 0; dev->group && i < kernel.n_devices; i++)
        if (kernel.devices[i].group == dev->group && pdev_active(&kernel.devices[i]))
            return true;
    return false;
}

static int probe_allowed(const struct driver *drv, const struct pdev *dev)
{
    if (!dev->present)
        return -ENODEV;
    if (dev->driver || (!drv->vfio && group_claimed(dev)))
        return -EBUSY;
    return drv->vfio && !dev->group ? -EINVAL : 0; /* Linux drivers/vfio: no IOMMU group */
}

int driver_attach(struct driver *drv, struct pdev *dev)
{
    if (!matches(drv, dev))
        return -ENODEV;
    pdev_lock(dev);
    int r = probe_allowed(drv, dev);
    if (r == 0) {
        link_driver(dev, drv);
        devnodes_bind(dev);
        if (drv->vfio) {
            dev->pm_auto = true;
            power_idle(dev);
        } else {
            power_wake(dev);
            dev->enabled = true;
        }
    }
    pdev_unlock(dev);
    return r;
}

void driver_attach_any(struct pdev *dev)
{
    for (size_t i = 0; i < kernel.n_drivers && !dev->driver; i++)
        (void)driver_attach(&kernel.drivers[i], dev);
}

void driver_release(struct pdev *dev)
{
    if (!dev->driver)
        return;
    /* the links go first, whoever still uses the device (6.8) */
    node_remove(dev->driver_link);
    node_remove(dev->driver_dev_link);
    dev->driver_link = dev->driver_dev_link = NULL;
    while (pdev_users(dev) > 0 || model_fault(kernel.model, dev->hw, MODEL_FAULT_UNBIND_BLOCKS))
        tree_wait(tree_now_ns() + USERS_POLL_NS);
    devnodes_unbind(dev);
    bool vfio = dev->driver->vfio;
    dev->driver = NULL;
    dev->enabled = false;
    if (vfio)
        dev->pm_auto = false;
    power_wake(dev);
    static const struct node_ops no_ops = {0};
    node_file(dev->dir, "waiting_for_supplier", 0444, &no_ops, dev, 0);
    tree_wake();
}

int driver_remove(struct driver *drv)
{
    for (size_t i = 0; i < kernel.n_devices; i++)
        if (kernel.devices[i].driver == drv && pdev_users(&kernel.devices[i]) > 0)
            return -EAGAIN;
    for (size_t i = 0; i < kernel.n_devices; i++) {
        struct pdev *dev = &kernel.devices[i];
        pdev_lock(dev);
        if (dev->driver == drv)
            driver_release(dev);
        pdev_unlock(dev);
    }
    node_remove(drv->dir);
    *drv = (struct driver){0};
    return 0;
}

static int store_bind(struct node *node, const char *text)
{
    struct pdev *dev = pdev_find(text);
    return dev ? driver_attach(node->owner, dev) : -ENODEV;
}

static int store_unbind(struct node *node, const char *text)
{
    struct driver *drv = node->owner;
    struct pdev *dev = pdev_find(text);
    if (!dev || dev->driver != drv)
        return -ENODEV;
    pdev_lock(dev);
    if (dev->driver == drv)
        driver_release(dev);
    pdev_unlock(dev);
    return 0;
}

static int parse_id(const char *text, uint32_t *ret)
{
    char *end = NULL;
    unsigned long vendor = strtoul(text, &end, 16);
    if (end == text || *end != ' ' || vendor > 0xffff)
        return -EINVAL;
    const char *second = end + 1;
    unsigned long device = strtoul(second, &end, 16);
    if (end == second || (*end && *end != ' ') || device > 0xffff) /* more numbers may follow */
        return -EINVAL;
    *ret = (uint32_t)(vendor << 16 | device);
    return 0;
}

static int store_new_id(struct node *node, const char *text)
{
    struct driver *drv = node->owner;
    uint32_t id = 0;
    if (parse_id(text, &id) < 0)
        return -EINVAL;
    if (id_listed(drv, id))
        return -EEXIST;
    if (drv->n_ids == DRIVER_MAX_IDS)
        return -ENOMEM;
    drv->ids[drv->n_ids++] = id;
    for (size_t i = 0; i < kernel.n_devices; i++) {
        struct pdev *dev = &kernel.devices[i];
        if (dev->present && !dev->driver && id_of(dev) == id)
            (void)driver_attach(drv, dev);
    }
    return 0;
}

static int store_remove_id(struct node *node, const char *text)
{
    struct driver *drv = node->owner;
    uint32_t id = 0;
    if (parse_id(text, &id) < 0)
        return -EINVAL;
    for (size_t i = 0; i < drv->n_ids; i++) {
        if (drv->ids[i] != id)
            continue;
        drv->ids[i] = drv->ids[--drv->n_ids];
        return 0;
    }
    return -ENODEV;
}

static const struct node_ops bind_ops = {.store = store_bind, .waits = true},
                             unbind_ops = {.store = store_unbind, .waits = true},
                             new_id_ops = {.store = store_new_id, .waits = true},
                             remove_id_ops = {.store = store_remove_id};

struct driver *driver_add(const char *name)
{
    struct driver *drv = driver_find(name);
    if (drv)
        return drv;
    drv = driver_find(""); /* of a module that was unloaded */
    if (!drv && kernel.n_drivers == KERNEL_MAX_DRIVERS)
        return NULL;
    if (!drv)
        drv = &kernel.drivers[kernel.n_drivers++];
    *drv = (struct driver){.vfio = strstr(name, "vfio") != NULL};
    (void)snprintf(drv->name, sizeof drv->name, "%s", name);
    drv->dir = node_dir(node_path("sys/bus/pci/drivers"), name);
    node_file(drv->dir, "bind", 0200, &bind_ops, drv, 0);
    node_file(drv->dir, "unbind", 0200, &unbind_ops, drv, 0);
    node_file(drv->dir, "new_id", 0200, &new_id_ops, drv, 0);
    node_file(drv->dir, "remove_id", 0200, &remove_id_ops, drv, 0);
    return drv;
}
