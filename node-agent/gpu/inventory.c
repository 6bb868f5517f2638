#include "node-agent/gpu/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/group.h"
#include "node-agent/gpu/names.h"
#include "node-agent/gpu/sysfs.h"

#define VENDOR_NVIDIA 0x10de

bool inventory_bdf_ok(const char *text)
{
    static const char form[] = "xxxx:xx:xx.o";
    if (strlen(text) != sizeof form - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        const char *allowed = form[i] == 'x' ? "0123456789abcdef" : "01234567";
        bool digit = form[i] == 'x' || form[i] == 'o';
        if (digit ? !strchr(allowed, text[i]) : text[i] != form[i])
            return false;
    }
    return true;
}

/* Return: whether this class is a device of ours, and which. VGA and 3D controllers are GPUs, "other bridge" is how
 * an NVSwitch calls itself (gpu-admin-tools pci/devices.py). */
static bool kind_of(uint32_t class_code, enum nv_kind *ret)
{
    switch (class_code >> 8) {
    case 0x0300:
    case 0x0302:
        *ret = NV_KIND_GPU;
        return true;
    case 0x0680:
        *ret = NV_KIND_NVSWITCH;
        return true;
    default:
        return false;
    }
}

static int read_id(int dir_fd, const char *name, uint16_t *ret, struct err *err)
{
    uint32_t v;
    int r = sysfs_hex(dir_fd, name, 0xffff, &v, err);
    if (r == 0)
        *ret = (uint16_t)v;
    return r;
}

static void read_numa(int dir_fd, struct nv_device *dev)
{
    struct err ignored = ERR_INIT;
    if (sysfs_int(dir_fd, "numa_node", &dev->numa_node, &ignored) < 0 || dev->numa_node < 0 ||
        dev->numa_node > 4095)
        dev->numa_node = -1;
}

/* Who it is. Return: 1 ours, 0 not ours, -errno. */
static int identify(int dir_fd, struct nv_device *dev, struct err *err)
{
    char physfn[8];
    int r = read_id(dir_fd, "vendor", &dev->vendor_id, err);
    if (r < 0 || dev->vendor_id != VENDOR_NVIDIA)
        return r;
    r = sysfs_hex(dir_fd, "class", 0xffffff, &dev->class_code, err);
    if (r < 0 || !kind_of(dev->class_code, &dev->kind))
        return r;
    /* a virtual function looks like its GPU; the mode is the physical function's */
    if (readlinkat(dir_fd, "physfn", physfn, sizeof physfn) >= 0)
        return 0;
    r = read_id(dir_fd, "device", &dev->device_id, err);
    if (r < 0)
        return r;
    read_numa(dir_fd, dev);
    return 1;
}

/* What identify() found, for as long as the function exists. */
static struct nv_device identity(const struct nv_device *known)
{
    return (struct nv_device){.kind = known->kind,
                              .vendor_id = known->vendor_id,
                              .device_id = known->device_id,
                              .class_code = known->class_code,
                              .numa_node = known->numa_node};
}

static void read_override(int dir_fd, struct nv_device *dev)
{
    sysfs_word(dir_fd, "driver_override", dev->driver_override, sizeof dev->driver_override);
    if (strcmp(dev->driver_override, "(null)") == 0)
        dev->driver_override[0] = '\0';
}

/* Return: whether the members of the group are in @dev, so that they need not be listed again. */
static bool read_state(const struct host *host, int dir_fd, const struct nv_device *before,
                       bool same_members, struct nv_device *dev)
{
    sysfs_link_name(dir_fd, "driver", dev->driver, sizeof dev->driver);
    dev->driver_is_vfio = group_driver_is_vfio(dev->driver);
    if (!*dev->driver)
        read_override(dir_fd, dev);
    return group_read(host, dir_fd, before, same_members, dev);
}

static void set_known_names(struct nv_device *dev)
{
    const struct nv_model *model = names_find(dev->device_id);
    (void)snprintf(dev->chip, sizeof dev->chip, "%s", names_chip(dev->kind, dev->device_id));
    if (model) {
        (void)snprintf(dev->name, sizeof dev->name, "%s", model->name);
        (void)snprintf(dev->resource, sizeof dev->resource, "%s", model->resource);
    }
}

/* Who it is, from @before when that was the same function. Return: 1 ours, 0 not ours, -errno. */
static int identify_again(int dir_fd, const char *bdf, const struct nv_device *before,
                          struct nv_device *ret, struct err *err)
{
    struct stat now;
    if (fstat(dir_fd, &now) < 0)
        return err_errno(err, "stat");
    bool same = before->ino != 0 && before->ino == now.st_ino && strcmp(before->bdf, bdf) == 0;
    if (same)
        *ret = identity(before);
    int r = same ? 1 : identify(dir_fd, ret, err);
    (void)snprintf(ret->bdf, sizeof ret->bdf, "%.12s", bdf);
    ret->ino = now.st_ino;
    return r;
}

int inventory_read(const struct host *host, const char *bdf, struct nv_device *dev, struct err *err)
{
    char path[64];
    struct nv_device now = {0};
    if (!inventory_bdf_ok(bdf))
        return err_set(err, EINVAL, "'%.40s' is not a PCI address like 0000:18:00.0", bdf);
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, err);
    if (dir_fd < 0)
        return dir_fd == -ENOENT ? err_set(err, ENODEV, "there is no PCI device %s", bdf) : dir_fd;
    int r = identify_again(dir_fd, bdf, dev, &now, err);
    if (r < 0)
        return err_wrap(err, r, "%s", bdf);
    if (r == 0)
        return err_set(err, EINVAL, "%s is not an NVIDIA GPU or NVSwitch", bdf);
    set_known_names(&now);
    (void)read_state(host, dir_fd, NULL, false, &now);
    *dev = now;
    return 0;
}

bool inventory_is_enabled(const struct host *host, const char *bdf)
{
    struct err ignored = ERR_INIT;
    char path[64];
    int enabled = 0;
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", bdf);
    AUTO_CLOSE int dir_fd = host_open_dir(host, path, &ignored);
    return dir_fd >= 0 && sysfs_int(dir_fd, "enable", &enabled, &ignored) == 0 && enabled > 0;
}

static int compare_bdf(const void *a, const void *b)
{
    return strcmp(((const struct nv_device *)a)->bdf, ((const struct nv_device *)b)->bdf);
}

static bool has_gone(int r)
{
    return r == -ENOENT || r == -ENODEV || r == -ESTALE;
}

/* Return: as read_one(). What it is does not change while it exists, where it is bound does. */
static int read_function(const struct host *host, int list_fd, struct pci_functions *functions,
                         struct pci_function *f, struct err *err)
{
    AUTO_CLOSE int dir_fd = openat(list_fd, f->bdf, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return err_errno(err, "open");
    struct nv_device dev = {0};
    int r = 1;
    if (f->kind == FUNCTION_OURS)
        dev = identity(f->dev);
    else
        r = identify(dir_fd, &dev, err);
    if (r == 0)
        f->kind = FUNCTION_FOREIGN;
    if (r <= 0)
        return r;
    memcpy(dev.bdf, f->bdf, sizeof dev.bdf);
    set_known_names(&dev);
    bool same = f->members_of_set == functions->set;
    bool complete = read_state(host, dir_fd, f->dev, same, &dev);
    if (!f->dev)
        f->dev = xmalloc(sizeof *f->dev);
    *f->dev = dev;
    f->kind = FUNCTION_OURS;
    f->members_of_set = complete ? functions->set : 0;
    return 1;
}

static int scan_function(const struct host *host, int list_fd, struct pci_functions *functions,
                         struct pci_function *f, struct nv_inventory *ret, struct err *err)
{
    struct err why = ERR_INIT;
    int r = f->kind == FUNCTION_FOREIGN ? 0 : read_function(host, list_fd, functions, f, &why);
    if (r == 1 && ret->n == NV_MAX_DEVICES)
        return err_set(err, E2BIG, "this host has more than %d NVIDIA devices", NV_MAX_DEVICES);
    if (r == 1)
        ret->devices[ret->n++] = *f->dev;
    else if (r < 0 && !has_gone(r) && ret->n_unreadable++ == 0)
        (void)snprintf(ret->unreadable, sizeof ret->unreadable, "%s: %.200s", f->bdf, why.msg);
    return 0;
}

static int scan(const struct host *host, struct pci_functions *functions, struct nv_inventory *ret,
                struct err *err)
{
    int list_fd = host_openat(host, SYS_PCI_DEVICES, O_RDONLY | O_DIRECTORY, err);
    if (list_fd < 0)
        return list_fd;
    AUTO_CLOSEDIR DIR *dir = fdopendir(list_fd);
    if (!dir) {
        int r = err_errno(err, "list " SYS_PCI_DEVICES);
        (void)close(list_fd);
        return r;
    }
    int r = functions_list(functions, dir, err);
    for (size_t i = 0; r == 0 && i < functions->n; i++)
        r = scan_function(host, list_fd, functions, &functions->list[i], ret, err);
    return r;
}

int inventory_scan(const struct host *host, struct pci_functions *memory, struct nv_inventory *ret,
                   struct err *err)
{
    struct pci_functions own = {0};
    ret->n = 0;
    ret->n_unreadable = 0;
    ret->unreadable[0] = '\0';
    int r = scan(host, memory ? memory : &own, ret, err);
    functions_done(&own);
    if (r == 0)
        qsort(ret->devices, ret->n, sizeof ret->devices[0], compare_bdf);
    return r;
}
