/* Devices come and go: discovery, removal, the device lock. */
#include "simulator/tree/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct kernel kernel;

struct pdev *pdev_any(const char *bdf)
{
    for (size_t i = 0; i < kernel.n_devices; i++)
        if (strcmp(kernel.devices[i].bdf, bdf) == 0)
            return &kernel.devices[i];
    return NULL;
}

struct pdev *pdev_find(const char *bdf)
{
    struct pdev *dev = pdev_any(bdf);
    return dev && dev->present ? dev : NULL;
}

void pdev_lock(struct pdev *dev)
{
    while (dev->locked)
        tree_wait(0);
    dev->locked = true;
}

void pdev_unlock(struct pdev *dev)
{
    dev->locked = false;
    tree_wake();
}

int pdev_users(const struct pdev *dev)
{
    return dev->opens + model_vfio_opens(kernel.model, dev->hw);
}

bool pdev_active(const struct pdev *dev)
{
    return model_vfio_opens(kernel.model, dev->hw) > 0;
}

void kernel_sleep_ms(uint32_t ms)
{
    int64_t until = model_now_ns(kernel.model) + model_scaled_ns(kernel.model, ms);
    for (int64_t left; (left = until - model_now_ns(kernel.model)) > 0;)
        tree_wait(tree_now_ns() + left); /* `ctl advance` moves the model's clock and wakes us */
}

/* Where the device's directory goes: below its bridge, or below the host bridge its path starts with. */
static struct node *parent_dir(const struct pdev *dev)
{
    if (dev->up)
        return dev->up->dir;
    char path[48];
    char root[16];
    if (dev->spec)
        (void)snprintf(root, sizeof root, "%.10s", dev->spec->path);
    else
        (void)snprintf(root, sizeof root, "pci%.7s", dev->bdf);
    (void)snprintf(path, sizeof path, "sys/devices/%s", root);
    return node_path(path);
}

static void link_group(struct pdev *dev)
{
    if (!dev->group)
        return;
    dev->group_link = node_link(dev->group->devices, dev->bdf, dev->dir);
    node_link(dev->dir, "iommu_group", dev->group->dir);
}

/* Linux reset methods of a fresh device: FLR where it has it, bus when it is alone below its bridge or first. */
static void fresh(struct pdev *dev)
{
    bool function0 = dev->bdf[11] == '0';
    dev->override[0] = '\0';
    dev->power = POWER_UNKNOWN;
    dev->pm_auto = dev->enabled = false;
    dev->d3cold_allowed = true;
    dev->vfio_no = dev->nvidia_no = -1;
    dev->opens = 0;
    (void)snprintf(dev->reset_method, sizeof dev->reset_method, "%s",
                   !dev->spec  ? ""
                   : function0 ? "flr bus"
                               : "flr");
}

void pdev_add(struct pdev *dev)
{
    if (dev->present || !dev->plugged || (dev->up && !dev->up->present))
        return;
    fresh(dev);
    dev->present = true;
    dev->dir = node_dir(parent_dir(dev), dev->bdf);
    dev->bus_link = node_link(node_path("sys/bus/pci/devices"), dev->bdf, dev->dir);
    attributes_add(dev);
    link_group(dev);
    if (!dev->spec) { /* bridges are always driven */
        struct driver *port = driver_add("pcieport");
        dev->driver = port;
        dev->driver_link = node_link(dev->dir, "driver", port->dir);
        dev->driver_dev_link = node_link(port->dir, dev->bdf, dev->dir);
        dev->power = POWER_D0;
        dev->enabled = true;
    }
}

static void remove_nodes(struct pdev *dev)
{
    node_remove(dev->driver_dev_link);
    node_remove(dev->group_link);
    node_remove(dev->bus_link);
    node_remove(dev->dir);
    dev->dir = dev->bus_link = dev->group_link = dev->driver_link = dev->driver_dev_link = NULL;
    dev->vfio_dir = dev->dev_node = NULL;
}

int pdev_remove(struct pdev *dev)
{
    if (!dev->present)
        return -ENODEV;
    for (size_t i = 0; i < kernel.n_devices; i++)
        if (kernel.devices[i].up == dev && kernel.devices[i].present)
            (void)pdev_remove(&kernel.devices[i]);
    pdev_lock(dev);
    if (dev->present) {
        if (dev->spec)
            driver_release(dev);
        dev->driver = NULL;
        dev->present = false;
        model_fault_set(kernel.model, dev->hw, MODEL_FAULT_VFIO_WEDGED, 0);
        remove_nodes(dev);
    }
    pdev_unlock(dev);
    return 0;
}

void kernel_refresh(void)
{
    for (size_t i = 0; i < kernel.n_devices; i++) {
        if (!kernel.devices[i].present)
            continue;
        attributes_refresh(&kernel.devices[i]);
        power_refresh(&kernel.devices[i]);
    }
    tree_wake();
}

void bus_rescan(void)
{
    while (kernel.rescan_lock)
        tree_wait(0);
    kernel.rescan_lock = true;
    for (size_t i = 0; i < kernel.n_devices; i++) { /* bridges come before what is below them */
        struct pdev *dev = &kernel.devices[i];
        if (dev->present || !dev->plugged || model_dead(kernel.model, dev->hw))
            continue;
        pdev_add(dev);
        if (dev->present && dev->spec && kernel.autoprobe)
            driver_attach_any(dev);
    }
    kernel.rescan_lock = false;
    tree_wake();
}
