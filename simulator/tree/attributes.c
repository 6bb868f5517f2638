/* The files of one PCI device directory, as the reference table 6.1 lists them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "simulator/tree/kernel.h"

#define BARS 6

static struct pdev *owner(struct node *node)
{
    return node->owner;
}

/* --- identity ---------------------------------------------------------------------------------------------- */
enum id { ID_VENDOR, ID_DEVICE, ID_SUBVENDOR, ID_SUBDEVICE, ID_CLASS, ID_REVISION };

static ssize_t show_id(struct node *node, char *buf)
{
    const struct model_desc *d = model_desc(kernel.model, owner(node)->hw);
    switch (node->arg) {
    case ID_VENDOR:
        return sprintf(buf, "0x%04x\n", d->vendor_id);
    case ID_DEVICE:
        return sprintf(buf, "0x%04x\n", d->device_id);
    case ID_SUBVENDOR:
        return sprintf(buf, "0x%04x\n", d->subsystem_vendor_id);
    case ID_SUBDEVICE:
        return sprintf(buf, "0x%04x\n", d->subsystem_device_id);
    case ID_CLASS:
        return sprintf(buf, "0x%06x\n", d->class_code);
    default:
        return sprintf(buf, "0x%02x\n", d->revision);
    }
}
static const struct node_ops id_ops = {.show = show_id, .constant = true};

static int modalias(const struct pdev *dev, char *buf)
{
    const struct model_desc *d = model_desc(kernel.model, dev->hw);
    return sprintf(buf, "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", d->vendor_id, d->device_id,
                   d->subsystem_vendor_id, d->subsystem_device_id, d->class_code >> 16 & 0xff,
                   d->class_code >> 8 & 0xff, d->class_code & 0xff);
}

static ssize_t show_modalias(struct node *node, char *buf)
{
    int n = modalias(owner(node), buf);
    return n + sprintf(buf + n, "\n");
}
static const struct node_ops modalias_ops = {.show = show_modalias, .constant = true};

static ssize_t show_uevent(struct node *node, char *buf)
{
    const struct pdev *dev = owner(node);
    const struct model_desc *d = model_desc(kernel.model, dev->hw);
    char alias[96];
    (void)modalias(dev, alias);
    int n = dev->driver ? sprintf(buf, "DRIVER=%s\n", dev->driver->name) : 0;
    return n + sprintf(buf + n,
                       "PCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\n"
                       "PCI_SLOT_NAME=%s\nMODALIAS=%s\n",
                       d->class_code, d->vendor_id, d->device_id, d->subsystem_vendor_id,
                       d->subsystem_device_id, dev->bdf, alias);
}
static int store_nothing(struct node *node, const char *text)
{
    (void)node, (void)text;
    return 0;
}
static const struct node_ops uevent_ops = {.show = show_uevent, .store = store_nothing};

/* --- plain values ------------------------------------------------------------------------------------------ */
static ssize_t show_numa(struct node *node, char *buf)
{
    return sprintf(buf, "%d\n", owner(node)->numa);
}
static const struct node_ops numa_ops = {.show = show_numa};

static ssize_t show_enable(struct node *node, char *buf)
{
    const struct pdev *dev = owner(node);
    return sprintf(buf, "%d\n", dev->enabled || pdev_active(dev));
}
static int store_enable(struct node *node, const char *text)
{
    struct pdev *dev = owner(node);
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return -EINVAL;
    if (dev->driver)
        return -EBUSY;
    dev->enabled = *text == '1';
    if (dev->enabled) {
        uint32_t command = model_config_read(kernel.model, dev->hw, 4, 2);
        (void)model_config_write(kernel.model, dev->hw, 4, 2, command | 2);
        power_wake(dev);
    }
    return 0;
}
static const struct node_ops enable_ops = {.show = show_enable, .store = store_enable};

static ssize_t show_d3cold(struct node *node, char *buf)
{
    return sprintf(buf, "%d\n", owner(node)->d3cold_allowed);
}
static int store_d3cold(struct node *node, const char *text)
{
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return -EINVAL;
    owner(node)->d3cold_allowed = *text == '1';
    return 0;
}
static const struct node_ops d3cold_ops = {.show = show_d3cold, .store = store_d3cold};

static ssize_t show_override(struct node *node, char *buf)
{
    const char *text = owner(node)->override;
    return snprintf(buf, TREE_PAGE, "%s\n", *text ? text : "(null)");
}
static int store_override(struct node *node, const char *text)
{
    (void)snprintf(owner(node)->override, TREE_PAGE, "%s", text);
    return 0;
}
static const struct node_ops override_ops = {.show = show_override, .store = store_override};

/* --- removal ----------------------------------------------------------------------------------------------- */
static int store_remove(struct node *node, const char *text)
{
    struct pdev *dev = owner(node);
    if (strcmp(text, "1") != 0)
        return -EINVAL;
    while (kernel.rescan_lock)
        tree_wait(0);
    kernel.rescan_lock = true;
    int r = pdev_remove(dev);
    kernel.rescan_lock = false;
    tree_wake();
    return r;
}
static const struct node_ops remove_ops = {.store = store_remove, .waits = true};

static int store_rescan(struct node *node, const char *text)
{
    (void)node;
    if (strcmp(text, "1") != 0)
        return -EINVAL;
    bus_rescan();
    return 0;
}
static const struct node_ops rescan_ops = {.store = store_rescan, .waits = true};

/* --- configuration space and BARs -------------------------------------------------------------------------- */
/* naturally aligned pieces, as pci_read_config() in Linux drivers/pci/pci-sysfs.c cuts them */
static unsigned piece(off_t at, size_t left)
{
    if (at % 2 || left == 1)
        return 1;
    return at % 4 || left < 4 ? 2 : 4;
}

/* While Linux resets a device it lets no process see its configuration space half restored: pci_wait_cfg() in
 * drivers/pci/access.c. Return: 0, or -ENODEV when it is gone. */
static int wait_config(struct node *node)
{
    while (!node->gone && owner(node)->config_blocked)
        tree_wait(0);
    return node->gone ? -ENODEV : 0;
}

static ssize_t read_config(struct node *node, char *buf, size_t len, off_t at)
{
    size_t done = 0;
    if (at >= TREE_PAGE)
        return 0;
    int r = wait_config(node);
    if (r < 0)
        return r;
    if (len > (size_t)(TREE_PAGE - at))
        len = (size_t)(TREE_PAGE - at);
    while (done < len) {
        unsigned n = piece(at + (off_t)done, len - done);
        uint32_t v =
            model_config_read(kernel.model, owner(node)->hw, (unsigned)((size_t)at + done), n);
        memcpy(buf + done, &v, n); /* little endian on both sides: x86-64 only, as the trap */
        done += n;
    }
    return (ssize_t)done;
}

static ssize_t write_config(struct node *node, const char *buf, size_t len, off_t at)
{
    size_t done = 0;
    if (model_lockdown(kernel.model) != MODEL_LOCKDOWN_NONE)
        return -EPERM;
    if (at >= TREE_PAGE)
        return 0;
    int r = wait_config(node);
    if (r < 0)
        return r;
    if (len > (size_t)(TREE_PAGE - at))
        len = (size_t)(TREE_PAGE - at);
    while (done < len) {
        unsigned n = piece(at + (off_t)done, len - done);
        uint32_t v = 0;
        memcpy(&v, buf + done, n);
        (void)model_config_write(kernel.model, owner(node)->hw, (unsigned)((size_t)at + done), n,
                                 v);
        done += n;
    }
    return (ssize_t)done;
}
static const struct node_ops config_ops = {
    .pread = read_config, .pwrite = write_config, .waits = true};

static const struct node_ops bar_ops = {.mappable = true}; /* read and write: EIO, as seen (6.2) */

/* 13 lines: 6 BARs, ROM, 6 SR-IOV or bridge windows (6.1) */
static ssize_t show_resource(struct node *node, char *buf)
{
    int n = 0;
    for (int i = 0; i < 13; i++) {
        struct model_bar bar = {0};
        if (i < BARS)
            bar = model_bar(kernel.model, owner(node)->hw, i);
        uint64_t flags = !bar.size ? 0 : bar.prefetch ? 0x14220c : 0x40200;
        n += sprintf(buf + n, "0x%016llx 0x%016llx 0x%016llx\n",
                     (unsigned long long)(bar.size ? bar.base : 0),
                     (unsigned long long)(bar.size ? bar.base + bar.size - 1 : 0),
                     (unsigned long long)flags);
    }
    return n;
}
static const struct node_ops resource_ops = {.show = show_resource};

static void add_bars(struct pdev *dev)
{
    for (int i = 0; i < BARS; i++) {
        struct model_bar bar = model_bar(kernel.model, dev->hw, i);
        char name[24];
        if (!bar.size)
            continue;
        (void)sprintf(name, "resource%d", i);
        node_file(dev->dir, name, 0600, &bar_ops, dev, i)->size = (int64_t)bar.size;
        if (!bar.prefetch)
            continue;
        (void)sprintf(name, "resource%d_wc", i);
        node_file(dev->dir, name, 0600, &bar_ops, dev, i)->size = (int64_t)bar.size;
    }
}

/* --- link -------------------------------------------------------------------------------------------------- */
enum link { LINK_SPEED, LINK_WIDTH, LINK_MAX_SPEED, LINK_MAX_WIDTH };

static unsigned pcie_cap(const struct pdev *dev)
{
    unsigned at = model_config_read(kernel.model, dev->hw, 0x34, 1) & 0xfc;
    for (int i = 0; at >= 0x40 && i < 48; i++) {
        uint32_t head = model_config_read(kernel.model, dev->hw, at, 2);
        if ((head & 0xff) == 0x10)
            return at;
        at = head >> 8 & 0xfc;
    }
    return 0;
}

static ssize_t show_link(struct node *node, char *buf)
{
    static const char *const speeds[] = {"Unknown",       "2.5 GT/s PCIe",  "5.0 GT/s PCIe",
                                         "8.0 GT/s PCIe", "16.0 GT/s PCIe", "32.0 GT/s PCIe",
                                         "64.0 GT/s PCIe"};
    const struct pdev *dev = owner(node);
    unsigned cap = pcie_cap(dev);
    bool max = node->arg >= LINK_MAX_SPEED;
    if (!cap)
        return -EINVAL;
    uint32_t v = model_config_read(kernel.model, dev->hw, cap + (max ? 0x0c : 0x12), 2);
    unsigned speed = v & 0xf;
    if (node->arg == LINK_WIDTH || node->arg == LINK_MAX_WIDTH)
        return sprintf(buf, "%u\n", v >> 4 & 0x3f);
    return sprintf(buf, "%s\n", speeds[speed < 7 ? speed : 0]);
}
static const struct node_ops link_ops = {.show = show_link};

static const struct {
    const char *name, *text;
} constants[] = {
    {"ari_enabled", "0"},
    {"broken_parity_status", "0"},
    {"consistent_dma_mask_bits", "64"},
    {"dma_mask_bits", "64"},
    {"irq", "0"},
    {"msi_bus", "1"},
    {"local_cpulist", "0-1"},
    {"local_cpus", "3"},
};

/* --- error counters ---------------------------------------------------------------------------------------- */
/* names, order and totals of Linux 6.12 drivers/pci/pcie/aer.c; counted by the kernel, so they outlive the device's link */
#define UNCORRECTABLE                                                                              \
    "Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF",          \
        "MalfTLP", "ECRC", "UnsupReq", "ACSViol", "UncorrIntErr", "BlockedTLP", "AtomicOpBlocked", \
        "TLPBlockedErr", "PoisonTLPBlocked"
static const struct {
    const char *file, *total, *struck; /* which of the names the fault counts */
    int fault;
    const char *names[20];
} aer[] = {
    {"aer_dev_correctable",
     "COR",
     "BadTLP",
     MODEL_FAULT_AER_CORRECTABLE,
     {"RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout", "NonFatalErr", "CorrIntErr",
      "HeaderOF"}},
    {"aer_dev_nonfatal", "NONFATAL", "CmpltTO", MODEL_FAULT_AER_NONFATAL, {UNCORRECTABLE}},
    {"aer_dev_fatal", "FATAL", "DLP", MODEL_FAULT_AER_FATAL, {UNCORRECTABLE}},
};

static ssize_t show_aer(struct node *node, char *buf)
{
    int n = 0, count = model_fault(kernel.model, owner(node)->hw, aer[node->arg].fault);
    for (const char *const *name = aer[node->arg].names; *name; name++)
        n += sprintf(buf + n, "%s %d\n", *name,
                     strcmp(*name, aer[node->arg].struck) == 0 ? count : 0);
    return n + sprintf(buf + n, "TOTAL_ERR_%s %d\n", aer[node->arg].total, count);
}
static const struct node_ops aer_ops = {.show = show_aer};

void attributes_refresh(struct pdev *dev)
{
    struct node *power = node_dir(dev->dir, "power");
    if (model_fault(kernel.model, dev->hw, MODEL_FAULT_NO_POWER_CONTROL))
        node_remove(node_find(power, "control"));
    else
        node_file(power, "control", 0644, &power_control_ops, dev, 0);
}

static void add_power(struct pdev *dev)
{
    struct node *power = node_dir(dev->dir, "power");
    attributes_refresh(dev);
    node_file(power, "runtime_status", 0444, &runtime_status_ops, dev, 0);
    node_text(power, "runtime_usage", "0");
    node_text(power, "autosuspend_delay_ms", "");
    node_file(dev->dir, "power_state", 0444, &power_state_ops, dev, 0);
    node_file(dev->dir, "d3cold_allowed", 0644, &d3cold_ops, dev, 0);
}

static void add_links(struct pdev *dev)
{
    node_link(dev->dir, "subsystem", node_path("sys/bus/pci"));
    if (!dev->spec)
        return;
    if (*dev->spec->physfn) {
        struct pdev *pf = pdev_find(dev->spec->physfn);
        if (pf) {
            node_link(dev->dir, "physfn", pf->dir);
            node_link(pf->dir, "virtfn0", dev->dir);
        }
    }
    /* the audio function depends on the GPU of its slot: a device link, seen from the GPU as consumer:pci:… */
    if (strcmp(dev->spec->model, "audio") == 0) {
        char gpu[16], name[40];
        (void)snprintf(gpu, sizeof gpu, "%s", dev->bdf);
        gpu[11] = '0';
        struct pdev *pf = pdev_find(gpu);
        (void)snprintf(name, sizeof name, "consumer:pci:%s", dev->bdf);
        if (pf)
            node_link(pf->dir, name, dev->dir);
    }
}

void attributes_add(struct pdev *dev)
{
    struct node *dir = dev->dir;
    static const struct node_ops no_ops = {0};
    static const char *const ids[] = {"vendor",           "device", "subsystem_vendor",
                                      "subsystem_device", "class",  "revision"};
    static const char *const links[] = {"current_link_speed", "current_link_width",
                                        "max_link_speed", "max_link_width"};
    for (long i = 0; i < 6; i++)
        node_file(dir, ids[i], 0444, &id_ops, dev, i);
    for (long i = 0; i < 4; i++)
        node_file(dir, links[i], 0444, &link_ops, dev, i);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        node_text(dir, constants[i].name, constants[i].text);
    for (size_t i = 0; i < sizeof aer / sizeof *aer; i++)
        node_file(dir, aer[i].file, 0444, &aer_ops, dev, (long)i);
    node_file(dir, "modalias", 0444, &modalias_ops, dev, 0);
    node_file(dir, "uevent", 0644, &uevent_ops, dev, 0);
    node_file(dir, "numa_node", 0644, &numa_ops, dev, 0);
    node_file(dir, "enable", 0644, &enable_ops, dev, 0);
    node_file(dir, "driver_override", 0644, &override_ops, dev, 0);
    node_file(dir, "remove", 0220, &remove_ops, dev, 0);
    node_file(dir, "rescan", 0220, &rescan_ops, dev, 0);
    node_file(dir, "config", 0644, &config_ops, dev, 0);
    node_file(dir, "resource", 0444, &resource_ops, dev, 0);
    if (*dev->reset_method) {
        node_file(dir, "reset", 0200, &reset_ops, dev, 0);
        node_file(dir, "reset_method", 0644, &reset_method_ops, dev, 0);
        node_file(dir, "waiting_for_supplier", 0444, &no_ops, dev, 0);
    }
    if (model_desc(kernel.model, dev->hw)->class_code >> 8 == 0x0300)
        node_text(dir, "boot_vga", "0");
    add_power(dev);
    add_bars(dev);
    add_links(dev);
}
