#include "simulator/tree/build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/tree/control.h"
#include "simulator/tree/kernel.h"
#include "simulator/tree/platform.h"

/* --- devices ----------------------------------------------------------------------------------------------- */
/* bits of the link speed etc. are the model's; here are only identities, from pci.ids and the driver's lists */
static const struct {
    const char *name;
    uint16_t vendor, device, sub_vendor, sub_device;
    uint32_t class_code;
} ids[] = {
    {"h100-pcie", 0x10de, 0x2331, 0x10de, 0x1626, 0x030200},
    {"h100-sxm", 0x10de, 0x2330, 0x10de, 0x16c1, 0x030200},
    {"h200-sxm", 0x10de, 0x2335, 0x10de, 0x18be, 0x030200},
    {"b200", 0x10de, 0x2901, 0x10de, 0x1999, 0x030200},
    {"rtx-pro-6000", 0x10de, 0x2bb5, 0x10de, 0x204e, 0x030000},
    {"ls10", 0x10de, 0x22a3, 0x10de, 0x1796, 0x068000},
    {"a100", 0x10de, 0x20b0, 0x10de, 0x1450, 0x030200},
    {"audio", 0x10de, 0x22e8, 0x10de, 0x204e, 0x040300},
    {"vf", 0x10de, 0x2335, 0x10de, 0x18be, 0x030200},
    {"nic", 0x15b3, 0x1021, 0x15b3, 0x0023, 0x020000},
};

/* @desc: completed with the address. Return: NULL with err set when there are too many. */
static struct pdev *new_device(const char *bdf, struct pdev *up, struct model_desc desc,
                               struct err *err)
{
    if (kernel.n_devices == KERNEL_MAX_DEVICES) {
        (void)err_set(err, E2BIG, "more than %d devices and bridges", KERNEL_MAX_DEVICES);
        return NULL;
    }
    struct pdev *dev = &kernel.devices[kernel.n_devices];
    (void)snprintf(desc.bdf, sizeof desc.bdf, "%s", bdf);
    desc.parent = up ? up->hw : -1;
    dev->hw = model_add(kernel.model, &desc, err);
    if (dev->hw < 0)
        return NULL;
    (void)snprintf(dev->bdf, sizeof dev->bdf, "%s", bdf);
    dev->up = up;
    dev->numa = -1;
    dev->plugged = true;
    dev->vfio_no = dev->nvidia_no = -1;
    kernel.n_devices++;
    return dev;
}

static struct group *group_at(int number)
{
    char text[16];
    for (size_t i = 0; i < kernel.n_groups; i++)
        if (kernel.groups[i].number == number)
            return &kernel.groups[i];
    struct group *group = &kernel.groups[kernel.n_groups++];
    (void)snprintf(text, sizeof text, "%d", number);
    group->number = number;
    group->dir = node_dir(node_path("sys/kernel/iommu_groups"), text);
    group->devices = node_dir(group->dir, "devices");
    node_text(group->dir, "type", "DMA-FQ");
    return group;
}

static int free_group(const struct profile *p)
{
    for (int n = 0;; n++) {
        bool taken = false;
        for (size_t i = 0; i < kernel.n_groups; i++)
            taken |= kernel.groups[i].number == n;
        for (size_t i = 0; i < p->n_devices; i++)
            taken |= p->devices[i].group == n;
        if (!taken)
            return n;
    }
}

/* functions of one slot share a group, as without ACS */
static struct group *choose_group(const struct pdev *dev)
{
    if (!kernel.profile->iommu)
        return NULL;
    if (dev->spec && dev->spec->group >= 0)
        return group_at(dev->spec->group);
    for (size_t i = 0; i < kernel.n_devices; i++) {
        const struct pdev *d = &kernel.devices[i];
        if (d != dev && d->group && strncmp(d->bdf, dev->bdf, 11) == 0)
            return d->group;
    }
    return group_at(free_group(kernel.profile));
}

/* Intel root port below a host bridge, a switch port (Broadcom PEX890xx, pci.ids) below another bridge */
static struct pdev *bridge_at(const char *bdf, struct pdev *up, struct err *err)
{
    struct pdev *dev = pdev_any(bdf);
    if (dev && dev->up != up)
        return (void)err_set(err, EINVAL, "bridge %s has two places in the profile", bdf), NULL;
    if (dev)
        return dev;
    struct model_desc desc = {.vendor_id = up ? 0x1000 : 0x8086,
                              .device_id = up ? 0xc030 : 0x352a,
                              .class_code = 0x060400};
    dev = new_device(bdf, up, desc, err);
    if (dev)
        dev->group = choose_group(dev);
    return dev;
}

static int bridges_of(const struct profile_device *spec, struct pdev **ret, struct err *err)
{
    char path[sizeof spec->path], *save = NULL;
    struct pdev *up = NULL;
    (void)snprintf(path, sizeof path, "%s", spec->path);
    (void)strtok_r(path, "/", &save); /* the host bridge */
    for (char *bdf = strtok_r(NULL, "/", &save); bdf; bdf = strtok_r(NULL, "/", &save)) {
        up = bridge_at(bdf, up, err);
        if (!up)
            return -err->code;
        up->numa = spec->numa;
    }
    *ret = up;
    return 0;
}

static struct model_desc desc_of(const struct profile_device *spec)
{
    struct model_desc d = {.revision = 0xa1,
                           .vendor_id = spec->vendor_id,
                           .device_id = spec->device_id,
                           .class_code = spec->class_code};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (strcmp(ids[i].name, spec->model) != 0)
            continue;
        d.vendor_id = spec->vendor_id ? spec->vendor_id : ids[i].vendor;
        d.device_id = spec->device_id ? spec->device_id : ids[i].device;
        d.subsystem_vendor_id = ids[i].sub_vendor;
        d.subsystem_device_id = ids[i].sub_device;
        d.class_code = spec->class_code ? spec->class_code : ids[i].class_code;
    }
    d.no_ppcie = spec->no_ppcie;
    d.vf = strcmp(spec->model, "vf") == 0;
    return d;
}

static int add_device(const struct profile_device *spec, struct err *err)
{
    struct pdev *up = NULL;
    int r = bridges_of(spec, &up, err);
    if (r < 0)
        return r;
    struct pdev *dev = new_device(spec->bdf, up, desc_of(spec), err);
    if (!dev)
        return -err->code;
    dev->spec = spec;
    dev->numa = spec->numa;
    dev->plugged = !spec->unplugged;
    dev->group = choose_group(dev);
    model_plug(kernel.model, dev->hw, dev->plugged);
    static const enum model_mode modes[] = {MODEL_MODE_OFF, MODEL_MODE_ON, MODEL_MODE_DEVTOOLS,
                                            MODEL_MODE_PPCIE};
    for (size_t i = 1; i < ARRAY_LEN(modes); i++)
        if (strcmp(spec->mode, model_mode_name(modes[i])) == 0)
            model_drift(kernel.model, dev->hw, modes[i]);
    return 0;
}

/* drivers of the profile, without the waits and matches of a bind */
static void first_driver(struct pdev *dev)
{
    if (!dev->spec || !dev->present || !*dev->spec->driver)
        return;
    (void)module_load(dev->spec->driver); /* where it is one that we know */
    struct driver *drv = driver_add(dev->spec->driver);
    if (!drv)
        return;
    (void)snprintf(dev->override, sizeof dev->override, "%s", drv->name);
    (void)driver_attach(drv, dev);
    if (!drv->vfio)
        dev->override[0] = '\0';
}

static int set_delay(const struct profile_delay *delay, struct err *err)
{
    for (int d = 0; model_delay_name(d); d++) {
        if (strcmp(model_delay_name(d), delay->name) != 0)
            continue;
        model_delay_set(kernel.model, d, delay->ms);
        return 0;
    }
    return err_set(err, EINVAL, "no delay '%s': see ccnode-sim ctl delays", delay->name);
}

static int setup_model(const struct profile *profile, const struct serve_options *options,
                       struct err *err)
{
    static const char *const levels[] = {"none", "integrity", "confidentiality"};
    AUTO_FREE char *state = xasprintf("%s/.sim/state", options->root);
    (void)unlink(state); /* of a server that was killed; its trapped programs keep the old one */
    int r = model_create(state, &kernel.model, err);
    if (r < 0)
        return r;
    model_set_scale(kernel.model, options->scale);
    for (int i = 0; i < (int)ARRAY_LEN(levels); i++)
        if (strcmp(profile->lockdown, levels[i]) == 0)
            model_set_lockdown(kernel.model, i);
    for (size_t i = 0; i < profile->n_delays && r == 0; i++)
        r = set_delay(&profile->delays[i], err);
    for (size_t i = 0; i < options->n_delays && r == 0; i++)
        r = set_delay(&options->delays[i], err);
    return r;
}

static int build_devices(const struct profile *profile, struct err *err)
{
    platform_setup();
    control_setup();
    for (size_t i = 0; i < profile->n_devices; i++) {
        int r = add_device(&profile->devices[i], err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < kernel.n_devices; i++)
        pdev_add(&kernel.devices[i]);
    for (size_t i = 0; i < kernel.n_devices; i++)
        first_driver(&kernel.devices[i]);
    kernel.autoprobe = true;
    return 0;
}

int build_node(const struct profile *profile, const struct serve_options *options, struct err *err)
{
    kernel.profile = profile;
    kernel.root = options->root;
    kernel.device_nodes = options->device_nodes;
    int r = setup_model(profile, options, err);
    if (r < 0)
        return r;
    tree_lock();
    r = build_devices(profile, err);
    tree_unlock();
    return r;
}
