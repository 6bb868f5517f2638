#include "simulator/tree/build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "simulator/tree/control.h"
#include "simulator/tree/kernel.h"

struct model *shim_create(double);
int shim_add(struct model *, struct model_desc, bool);

/* --- the kernel's own files -------------------------------------------------------------------------------- */
static ssize_t show_lockdown(struct node *node, char *buf)
{
    static const char *const lines[] = {"[none] integrity confidentiality", "none [integrity] confidentiality",
                                        "none integrity [confidentiality]"};
    (void)node;
    return sprintf(buf, "%s\n", lines[model_lockdown(kernel.model)]);
}
static const struct node_ops lockdown_ops = {.show = show_lockdown};

static int store_drivers_probe(struct node *node, const char *text)
{
    struct pdev *dev = pdev_find(text);
    (void)node;
    if (!dev)
        return -ENODEV;
    if (!dev->driver)
        driver_attach_any(dev);
    return 0;
}
static const struct node_ops drivers_probe_ops = {.store = store_drivers_probe};

static ssize_t show_autoprobe(struct node *node, char *buf)
{
    (void)node;
    return sprintf(buf, "%d\n", kernel.autoprobe);
}
static int store_autoprobe(struct node *node, const char *text)
{
    (void)node;
    kernel.autoprobe = strcmp(text, "0") != 0;
    return 0;
}
static const struct node_ops autoprobe_ops = {.show = show_autoprobe, .store = store_autoprobe};

static int store_rescan(struct node *node, const char *text)
{
    (void)node;
    if (strcmp(text, "1") != 0)
        return -EINVAL;
    bus_rescan();
    return 0;
}
static const struct node_ops rescan_ops = {.store = store_rescan};

static void module(const char *name, const char *parameter, const char *value)
{
    char path[96];
    (void)snprintf(path, sizeof path, "sys/module/%s/parameters", name);
    node_text(node_path(path), parameter, value);
}

static void add_modules(const struct profile *p)
{
    const char *on = p->tee_enabled ? "Y" : "N";
    module("vfio_pci", "disable_idle_d3", p->idle_d3 ? "N" : "Y");
    module("vfio_pci", "disable_denylist", "N");
    module("vfio_pci", "enable_sriov", "N");
    module("vfio_pci", "nointxmask", "N");
    module("vfio", "enable_unsafe_noiommu_mode", "N");
    if (strcmp(p->tee, "snp") == 0) {
        module("kvm_amd", "sev", "Y");
        module("kvm_amd", "sev_es", "Y");
        module("kvm_amd", "sev_snp", on);
    } else if (strcmp(p->tee, "tdx") == 0) {
        module("kvm_intel", "tdx", on);
    }
}

static void add_bus(void)
{
    struct node *pci = node_path("sys/bus/pci");
    node_dir(pci, "devices");
    node_dir(pci, "drivers");
    node_file(pci, "drivers_probe", 0200, &drivers_probe_ops, NULL, 0);
    node_file(pci, "drivers_autoprobe", 0644, &autoprobe_ops, NULL, 0);
    node_file(pci, "rescan", 0200, &rescan_ops, NULL, 0);
    node_path("sys/class/vfio");
    node_path("sys/kernel/iommu_groups");
    node_file(node_path("sys/kernel/security"), "lockdown", 0644, &lockdown_ops, NULL, 0);
    node_path("sys/devices/system/node/node0");
    kernel.autoprobe = true;
}

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

static struct pdev *new_device(const char *bdf)
{
    struct pdev *dev = &kernel.devices[kernel.n_devices++];
    (void)snprintf(dev->bdf, sizeof dev->bdf, "%.12s", bdf);
    dev->numa = -1;
    dev->plugged = true;
    dev->vfio_no = dev->nvidia_no = -1;
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

static struct pdev *bridge_at(const char *bdf, struct pdev *up)
{
    struct pdev *dev = pdev_any(bdf);
    if (dev)
        return dev;
    dev = new_device(bdf);
    dev->up = up;
    dev->hw = shim_add(kernel.model, (struct model_desc){.vendor_id = 0x8086, .device_id = 0x352a, .class_code = 0x060400}, true);
    dev->group = choose_group(dev);
    return dev;
}

static struct pdev *bridges_of(const struct profile_device *spec)
{
    char path[sizeof spec->path], *save = NULL;
    struct pdev *up = NULL;
    (void)strcpy(path, spec->path);
    (void)strtok_r(path, "/", &save); /* the host bridge */
    for (char *bdf = strtok_r(NULL, "/", &save); bdf; bdf = strtok_r(NULL, "/", &save))
        up = bridge_at(bdf, up);
    return up;
}

static void add_device(const struct profile_device *spec)
{
    struct pdev *up = bridges_of(spec);
    struct pdev *dev = new_device(spec->bdf);
    struct model_desc d = {.vendor_id = spec->vendor_id, .device_id = spec->device_id, .class_code = spec->class_code, .revision = 0xa1};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        if (strcmp(ids[i].name, spec->model) == 0)
            d = (struct model_desc){"", ids[i].vendor, ids[i].device, ids[i].sub_vendor, ids[i].sub_device, ids[i].class_code, 0xa1};
    dev->spec = spec;
    dev->up = up;
    dev->numa = spec->numa;
    dev->plugged = !spec->unplugged;
    dev->hw = shim_add(kernel.model, d, false);
    for (struct pdev *b = up; b; b = b->up)
        b->numa = spec->numa;
    dev->group = choose_group(dev);
}

/* drivers of the profile, without the waits and matches of a bind */
static void first_driver(struct pdev *dev)
{
    if (!dev->spec || !dev->present || !*dev->spec->driver)
        return;
    struct driver *drv = driver_add(dev->spec->driver);
    (void)snprintf(dev->override, sizeof dev->override, "%s", drv->name);
    (void)driver_attach(drv, dev);
    if (!drv->vfio)
        dev->override[0] = '\0';
}

int build_node(const struct profile *profile, const struct serve_options *options, struct err *err)
{
    (void)err;
    kernel.profile = profile;
    kernel.root = options->root;
    kernel.device_nodes = options->device_nodes;
    kernel.model = shim_create(options->scale);
    tree_lock();
    add_bus();
    add_modules(profile);
    control_setup();
    devnodes_setup();
    (void)driver_add("vfio-pci");
    (void)driver_add("nvgrace-gpu-vfio-pci");
    for (size_t i = 0; i < profile->n_devices; i++)
        add_device(&profile->devices[i]);
    for (size_t i = 0; i < kernel.n_devices; i++)
        pdev_add(&kernel.devices[i]);
    for (size_t i = 0; i < kernel.n_devices; i++)
        first_driver(&kernel.devices[i]);
    tree_unlock();
    return 0;
}
