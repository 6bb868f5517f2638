/* Hardware, kernel and VFIO. Facts: drivers/iommu/amd/init.c (SNP and IOMMU modes), arch/x86/kvm (module parameters),
 * drivers/vfio of Linux. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cli/preflight.h"
#include "node-agent/gpu/group.h"

static bool is_amd(const struct preflight *p)
{
    return strcmp(p->cpu, "AuthenticAMD") == 0;
}

static bool is_intel(const struct preflight *p)
{
    return strcmp(p->cpu, "GenuineIntel") == 0;
}

static bool exists(const struct preflight *p, const char *path)
{
    struct err err = ERR_INIT;
    AUTO_CLOSE int fd = host_openat(&p->cli->host, path, O_PATH, &err);
    return fd >= 0;
}

static void check_rights(struct preflight *p)
{
    struct err err = ERR_INIT;
    if (geteuid() != 0)
        check_add(p, "rights", CHECK_WARNING,
                  "run it as root: modes, bindings and the users of a device "
                  "cannot be seen otherwise",
                  "not running as root");
    if (cli_workers(p->cli, &err) < 0)
        check_add(p, "worker", CHECK_ERROR,
                  "install ccnode completely: ccnode-device does what touches hardware", "%s",
                  err.msg);
}

static void check_devices(struct preflight *p)
{
    const struct observed *o = &p->cli->observed;
    size_t gpus = 0, switches = 0, capable = 0, host_driven = 0;
    for (size_t i = 0; i < o->n; i++) {
        const struct nv_device *dev = &o->devices[i].dev;
        gpus += dev->kind == NV_KIND_GPU;
        switches += dev->kind == NV_KIND_NVSWITCH;
        capable += dev->kind == NV_KIND_GPU && *dev->chip;
        host_driven += *dev->driver && !dev->driver_is_vfio;
    }
    check_add(p, "devices", gpus == 0 ? CHECK_ERROR : CHECK_OK,
              gpus == 0
                  ? "see with lspci -nn -d 10de: whether the firmware of the host enumerates them"
                  : "",
              "%zu GPUs and %zu NVSwitches", gpus, switches);
    if (*o->unreadable)
        check_add(p, "devices", CHECK_ERROR,
                  "look at the kernel log for PCIe errors of that device", "%s", o->unreadable);
    if (gpus > 0 && capable == 0)
        check_add(p, "devices", CHECK_ERROR, "Confidential Computing needs Hopper or newer",
                  "no GPU of this host has Confidential Computing");
    else if (capable < gpus)
        check_add(p, "devices", CHECK_NOTE,
                  "leave them out with devices.exclude of the configuration",
                  "%zu of %zu GPUs have no Confidential Computing", gpus - capable, gpus);
    if (host_driven > 0)
        check_add(p, "binding", CHECK_NOTE,
                  "ccnode bind gives them to VFIO; the agent does it by itself",
                  "%zu devices are driven by the host", host_driven);
    if (p->in_vm)
        check_add(p, "machine", CHECK_WARNING, "run ccnode on the machine that has the hardware",
                  "this is itself a virtual machine");
}

static void check_iommu(struct preflight *p)
{
    if (p->facts.iommu) {
        check_add(p, "iommu", CHECK_OK, "", "on");
        return;
    }
    const char *cure = "switch the IOMMU on in the firmware (AMD-Vi, VT-d); on Intel add "
                       "intel_iommu=on to the kernel "
                       "command line; deploy/host does it";
    if (is_amd(p))
        cure = "switch AMD-Vi (IOMMU) on in the firmware and remove amd_iommu=off and iommu=off "
               "from the kernel "
               "command line; nothing has to be added there";
    if (is_intel(p))
        cure = "switch VT-d on in the firmware and add intel_iommu=on to the kernel command line; "
               "deploy/host does it";
    check_add(p, "iommu", CHECK_ERROR, cure,
              "no IOMMU group exists: devices cannot be given to VFIO");
}

static bool is_passthrough(const char *cmdline)
{
    return preflight_has_word(cmdline, "iommu=pt") ||
           preflight_has_word(cmdline, "iommu.passthrough=1");
}

const char *preflight_tee_cure(const char *cpu, const char *cmdline)
{
    bool amd = strcmp(cpu, "AuthenticAMD") == 0;
    if (amd && is_passthrough(cmdline))
        return "remove iommu=pt (iommu.passthrough=1) from the kernel command line: the kernel "
               "refuses SEV-SNP with it";
    if (amd && preflight_has_word(cmdline, "amd_iommu=pgtbl_v2"))
        return "remove amd_iommu=pgtbl_v2 from the kernel command line: the kernel refuses SEV-SNP "
               "with it";
    if (amd)
        return "switch SMEE, SEV-SNP and the RMP table on in the firmware, and kvm_amd.sev_snp=1 "
               "on "
               "the kernel command line where the kernel does not do it by itself (6.11 and newer "
               "do)";
    if (strcmp(cpu, "GenuineIntel") == 0)
        return "switch TME-MT, TDX and the SEAM loader on in the firmware, and kvm_intel.tdx=1 "
               "nohibernate on the kernel command line (Linux 6.16 and newer, or the vendor's "
               "kernel)";
    return "switch SEV-SNP (AMD) or TDX (Intel) on in firmware and kernel; deploy/host --check "
           "names "
           "what is missing";
}

static void check_tee(struct preflight *p)
{
    if (p->facts.snp || p->facts.tdx)
        check_add(p, "tee", CHECK_OK, "", "%s guests can be started",
                  p->facts.snp ? "SEV-SNP" : "TDX");
    else
        check_add(
            p, "tee", CHECK_ERROR, preflight_tee_cure(p->cpu, p->cmdline),
            "neither SEV-SNP nor TDX is on: GPUs can be switched, but no confidential guest can "
            "be started");
}

/* Under lockdown registers are reached through VFIO only (node-agent/gpu/worker.h), which resets the device. */
static void check_lockdown(struct preflight *p)
{
    const char *lockdown = p->facts.lockdown;
    const struct observed *o = &p->cli->observed;
    bool managed[NV_MAX_DEVICES];
    size_t unbound = 0;
    if (*lockdown == '\0' || strcmp(lockdown, "none") == 0) {
        check_add(p, "lockdown", CHECK_OK, "", "off");
        return;
    }
    cli_managed(p->cli, managed);
    for (size_t i = 0; i < o->n; i++)
        unbound += managed[i] && !o->devices[i].dev.driver_is_vfio;
    if (unbound > 0)
        check_add(p, "lockdown", CHECK_WARNING, "ccnode bind, or switch Secure Boot off",
                  "kernel lockdown is \"%s\" (Secure Boot): modes are read and changed through "
                  "VFIO only, and %zu "
                  "devices are not bound to it",
                  lockdown, unbound);
    else
        check_add(p, "lockdown", CHECK_NOTE, "switch Secure Boot off where that is not wanted",
                  "kernel lockdown is \"%s\" (Secure Boot): registers are reached through VFIO, "
                  "and opening a device "
                  "that way resets it, so that reading a mode makes a staged one active",
                  lockdown);
}

static void check_kernel(struct preflight *p)
{
    int major = 0, minor = 0;
    char *end = NULL;
    char release[64];
    host_release(&p->cli->host, release, sizeof release);
    major = (int)strtol(release, &end, 10);
    if (end && *end == '.')
        minor = (int)strtol(end + 1, NULL, 10);
    if (major == 0)
        check_add(p, "kernel", CHECK_SKIPPED, "", "the release is not known");
    else if (major < 5 || (major == 5 && minor < 19))
        check_add(p, "kernel", CHECK_WARNING, "use 5.19 or newer",
                  "Linux %s is older than what was tried", release);
    else
        check_add(p, "kernel", CHECK_OK, "", "Linux %s", release);
}

static void check_vfio(struct preflight *p)
{
    bool driver = exists(p, "/sys/bus/pci/drivers/vfio-pci");
    check_add(p, "vfio", driver ? CHECK_OK : CHECK_WARNING,
              driver ? ""
                     : "modprobe vfio-pci now, and for every boot a line \"vfio-pci\" in "
                       "/etc/modules-load.d; "
                       "deploy/host does it",
              driver ? "driver vfio-pci is there" : "driver vfio-pci is not loaded");
    if (p->facts.tdx && !exists(p, "/dev/vfio/devices") && !exists(p, "/dev/iommu"))
        check_add(p, "vfio", CHECK_WARNING,
                  "use a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV (6.6 and newer)",
                  "TDX guests need iommufd, and this kernel has no VFIO character devices");
    char text[64];
    struct err err = ERR_INIT;
    AUTO_CLOSE int dir =
        host_open_dir(&p->cli->host, "/sys/module/vfio_iommu_type1/parameters", &err);
    long limit = dir >= 0 && fs_read_attr(dir, "dma_entry_limit", text, sizeof text, &err) > 0
                     ? strtol(text, NULL, 10)
                     : 65535;
    if (limit < 65535) /* the default; large guests need every entry of it */
        check_add(p, "vfio", CHECK_WARNING,
                  "remove the option dma_entry_limit of vfio_iommu_type1 from /etc/modprobe.d",
                  "vfio_iommu_type1 allows %ld mappings per container only", limit);
}

/* Functions of the device's own slot are bound along with it; anything else in the group stands in the way. */
static bool goes_along(const struct nv_device *dev)
{
    const char *dot = strrchr(dev->bdf, '.');
    size_t slot = dot ? (size_t)(dot - dev->bdf) + 1 : sizeof dev->bdf;
    for (size_t i = 0; i < dev->n_companions; i++) {
        const struct nv_companion *c = &dev->companions[i];
        bool harmless =
            !*c->driver || group_driver_is_vfio(c->driver) || strcmp(c->driver, "pci-stub") == 0;
        if (!harmless && strncmp(c->bdf, dev->bdf, slot) != 0)
            return false;
    }
    return dev->n_companions > 0 && dev->n_companions < NV_MAX_COMPANIONS;
}

static void check_groups(struct preflight *p)
{
    const struct observed *o = &p->cli->observed;
    bool managed[NV_MAX_DEVICES];
    size_t usable = 0, grouped = 0;
    cli_managed(p->cli, managed);
    for (size_t i = 0; i < o->n; i++) {
        const struct nv_device *dev = &o->devices[i].dev;
        if (!managed[i] || dev->iommu_group < 0)
            continue;
        grouped++;
        if (dev->group_viable || goes_along(dev)) {
            usable++;
            continue;
        }
        check_add(p, "group", CHECK_ERROR,
                  "unbind the other function from its driver where it is not needed; else move one "
                  "of the two to a slot "
                  "with its own root port (ACS)",
                  "%s cannot be given to a guest: %s is in its IOMMU group %d", dev->bdf,
                  dev->group_blocker, dev->iommu_group);
    }
    if (grouped > 0 && usable == grouped)
        check_add(p, "group", CHECK_OK, "",
                  "the IOMMU groups of all %zu managed devices are usable", grouped);
}

void preflight_host(struct preflight *p)
{
    check_rights(p);
    check_devices(p);
    check_kernel(p);
    check_iommu(p);
    check_tee(p);
    check_lockdown(p);
    check_vfio(p);
    check_groups(p);
}
