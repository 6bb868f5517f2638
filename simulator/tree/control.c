#include "simulator/tree/control.h"

#include <errno.h>
#include <stdio.h>

#include "simulator/tree/kernel.h"

static ssize_t show_devices(struct node *node, char *buf)
{
    int n = 0;
    (void)node;
    for (size_t i = 0; i < kernel.n_devices; i++) {
        const struct pdev *d = &kernel.devices[i];
        if (!d->spec || n > TREE_PAGE - 128)
            continue;
        n += sprintf(buf + n,
                     "%s hw=%d present=%d driver=%s group=%d users=%d holder=%d nvidia=%d\n",
                     d->bdf, d->hw, d->present, d->driver ? d->driver->name : "-",
                     d->group ? d->group->number : -1, pdev_users(d),
                     d->group ? (int)d->group->holder : 0, d->nvidia_no);
    }
    return n;
}
static const struct node_ops devices_ops = {.show = show_devices};

static int store_plug(struct node *node, const char *text)
{
    struct pdev *dev = pdev_any(text);
    (void)node;
    if (!dev || !dev->spec)
        return -ENODEV;
    if (dev->plugged)
        return -EBUSY;
    dev->plugged = true;
    model_plug(kernel.model, dev->hw, true);
    bus_rescan();
    return 0;
}
static const struct node_ops plug_ops = {.store = store_plug};

static int store_unplug(struct node *node, const char *text)
{
    struct pdev *dev = pdev_any(text);
    if (!dev || !dev->spec || !dev->plugged)
        return -ENODEV;
    if (node->arg) /* surprise */
        model_plug(kernel.model, dev->hw, false);
    dev->plugged = false;
    if (dev->present)
        (void)pdev_remove(dev);
    model_plug(kernel.model, dev->hw, false);
    return 0;
}
static const struct node_ops unplug_ops = {.store = store_unplug};

void control_setup(void)
{
    struct node *dir = node_path("ctl");
    node_file(dir, "devices", 0444, &devices_ops, NULL, 0);
    node_file(dir, "plug", 0200, &plug_ops, NULL, 0);
    node_file(dir, "unplug", 0200, &unplug_ops, NULL, 0);
    node_file(dir, "unplug-surprise", 0200, &unplug_ops, NULL, 1);
}
