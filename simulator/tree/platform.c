/* Modules and the drivers they bring; the bus's files; lockdown. Facts: reference table 6.4 ("module"); Linux
 * security/lockdown/lockdown.c. */
#include "simulator/tree/platform.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "simulator/tree/kernel.h"

/* --- lockdown ---------------------------------------------------------------------------------------------- */
static const char *const levels[] = {"none", "integrity", "confidentiality"};

static ssize_t show_lockdown(struct node *node, char *buf)
{
    int n = 0, now = model_lockdown(kernel.model);
    (void)node;
    for (int i = 0; i < (int)ARRAY_LEN(levels); i++)
        n += sprintf(buf + n, i == now ? "%s[%s]" : "%s%s", i ? " " : "", levels[i]);
    return n + sprintf(buf + n, "\n");
}

/* can only be raised */
static int store_lockdown(struct node *node, const char *text)
{
    (void)node;
    for (int i = 0; i < (int)ARRAY_LEN(levels); i++) {
        if (strcmp(text, levels[i]) != 0)
            continue;
        if (i <= model_lockdown(kernel.model))
            return -EPERM;
        model_set_lockdown(kernel.model, i);
        return 0;
    }
    return -EINVAL;
}
static const struct node_ops lockdown_ops = {.show = show_lockdown, .store = store_lockdown};

/* --- the bus ----------------------------------------------------------------------------------------------- */
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
static const struct node_ops drivers_probe_ops = {.store = store_drivers_probe, .waits = true};

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
static const struct node_ops rescan_ops = {.store = store_rescan, .waits = true};

static void add_bus(void)
{
    struct node *pci = node_path("sys/bus/pci");
    node_dir(pci, "devices");
    node_dir(pci, "drivers");
    node_file(pci, "drivers_probe", 0200, &drivers_probe_ops, NULL, 0);
    node_file(pci, "drivers_autoprobe", 0644, &autoprobe_ops, NULL, 0);
    node_file(pci, "rescan", 0200, &rescan_ops, NULL, 0);
    node_path("sys/class/vfio");
    node_path("dev"); /* what is mounted there must exist, also while it is empty */
    node_path("sys/kernel/iommu_groups");
    node_path("sys/class/iommu");
    node_path("sys/devices/system/node/node0");
    node_path("sys/devices/system/node/node1");
    node_file(node_path("sys/kernel/security"), "lockdown", 0644, &lockdown_ops, NULL, 0);
    if (!kernel.profile->iommu)
        return;
    bool intel = strcmp(kernel.profile->tee, "tdx") == 0;
    node_path(intel ? "sys/class/iommu/dmar0" : "sys/class/iommu/ivhd0");
}

/* --- modules ----------------------------------------------------------------------------------------------- */
/* driver: what appears below sys/bus/pci/drivers; needs: loaded before it */
static const struct module {
    const char *name, *driver, *needs;
} modules[] = {
    {"vfio", NULL, NULL},
    {"vfio_iommu_type1", NULL, "vfio"},
    {"vfio_pci_core", NULL, "vfio"},
    {"nvidia", "nvidia", NULL},
    {"vfio_pci", "vfio-pci", "vfio_pci_core"},
    {"nvgrace_gpu_vfio_pci", "nvgrace-gpu-vfio-pci", "vfio_pci_core"},
};

static const struct module *module_find(const char *name)
{
    char plain[40];
    (void)snprintf(plain, sizeof plain, "%s", name);
    for (char *c = plain; *c; c++)
        if (*c == '-')
            *c = '_';
    for (size_t i = 0; i < ARRAY_LEN(modules); i++)
        if (strcmp(modules[i].name, plain) == 0)
            return &modules[i];
    return NULL;
}

static void parameter(const char *module, const char *name, const char *value)
{
    char path[96];
    (void)snprintf(path, sizeof path, "sys/module/%s/parameters", module);
    node_text(node_path(path), name, value);
}

int module_load(const char *name)
{
    const struct module *m = module_find(name);
    if (!m)
        return -ENOENT;
    if (node_find(node_path("sys/module"), m->name))
        return 0;
    if (m->needs)
        (void)module_load(m->needs);
    node_text(node_dir(node_path("sys/module"), m->name), "initstate", "live");
    if (strcmp(m->name, "vfio") == 0) {
        parameter("vfio", "enable_unsafe_noiommu_mode", "N");
        devnodes_setup();
    } else if (strcmp(m->name, "vfio_pci") == 0) {
        parameter(m->name, "disable_idle_d3", kernel.profile->idle_d3 ? "N" : "Y");
        parameter(m->name, "disable_denylist", "N");
        parameter(m->name, "enable_sriov", "N");
        parameter(m->name, "nointxmask", "N");
    }
    if (!m->driver)
        return 0;
    struct driver *drv = driver_add(m->driver);
    if (!drv)
        return -ENOMEM;
    node_link(drv->dir, "module", node_find(node_path("sys/module"), m->name));
    for (size_t i = 0; i < kernel.n_devices && kernel.autoprobe; i++) /* seen: binds by override */
        if (kernel.devices[i].present && !kernel.devices[i].driver)
            (void)driver_attach(drv, &kernel.devices[i]);
    return 0;
}

int module_unload(const char *name)
{
    const struct module *m = module_find(name);
    struct node *dir = m ? node_find(node_path("sys/module"), m->name) : NULL;
    if (!dir)
        return -ENOENT;
    for (size_t i = 0; i < ARRAY_LEN(modules); i++)
        if (modules[i].needs && strcmp(modules[i].needs, m->name) == 0 &&
            node_find(node_path("sys/module"), modules[i].name))
            return -EAGAIN;
    struct driver *drv = m->driver ? driver_find(m->driver) : NULL;
    if (drv && driver_remove(drv) < 0)
        return -EAGAIN;
    node_remove(dir);
    return 0;
}

void platform_setup(void)
{
    const struct profile *p = kernel.profile;
    const char *on = p->tee_enabled ? "Y" : "N";
    add_bus();
    if (p->vfio_loaded) {
        (void)module_load("vfio_iommu_type1");
        (void)module_load("vfio_pci");
    }
    if (strcmp(p->tee, "snp") == 0) {
        parameter("kvm_amd", "sev", "Y");
        parameter("kvm_amd", "sev_es", "Y");
        parameter("kvm_amd", "sev_snp", on);
    } else if (strcmp(p->tee, "tdx") == 0) {
        parameter("kvm_intel", "tdx", on);
    }
}
