#include "simulator/tree/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "base/host.h"
#include "simulator/tree/beside.h"

#define MODPROBE_MAX ((size_t)4 * 1024 * 1024) /* statically linked: under 1 MB */

/* drivers a variant-driver search finds (Linux scripts/mod writes these from the drivers' id tables):
 * vfio-pci matches everything, nvgrace-gpu Grace Hopper and Grace Blackwell (drivers/vfio/pci/nvgrace-gpu/main.c) */
static const char modules_alias[] =
    "# Aliases extracted from modules themselves.\n"
    "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
    "alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
    "alias vfio_pci:v000010DEd00002345sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
    "alias vfio_pci:v000010DEd00002348sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
    "alias vfio_pci:v000010DEd00002941sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
    "alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia\n"
    "alias pci:v000010DEd*sv*sd*bc03sc00i00* nvidia\n";

/* what can be loaded (platform.c) is a module here: an agent looks before it calls modprobe */
static const char modules_dep[] =
    "kernel/drivers/vfio/vfio.ko:\n"
    "kernel/drivers/vfio/vfio_iommu_type1.ko: kernel/drivers/vfio/vfio.ko\n"
    "kernel/drivers/vfio/pci/vfio-pci-core.ko: kernel/drivers/vfio/vfio.ko\n"
    "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/pci/vfio-pci-core.ko "
    "kernel/drivers/vfio/vfio.ko\n"
    "kernel/drivers/vfio/pci/nvgrace-gpu/nvgrace-gpu-vfio-pci.ko: "
    "kernel/drivers/vfio/pci/vfio-pci-core.ko kernel/drivers/vfio/vfio.ko\n"
    "updates/dkms/nvidia.ko:\n";

static const char *const dirs[] = {".sim/fs",
                                   "sys",
                                   "dev",
                                   "proc",
                                   "run",
                                   "etc",
                                   "tmp",
                                   "var/lib/kubelet/device-plugins",
                                   "var/lib/kubelet/pod-resources",
                                   "usr/share/misc",
                                   "usr/sbin"};

static int write_file(const struct host *host, const char *dir, const char *name, const char *text,
                      struct err *err)
{
    int r = fs_mkdirs(host, dir, err);
    return r < 0 ? r : fs_replace(host, dir, name, text, strlen(text), 0644, false, err);
}

/* ROOT/usr/sbin/modprobe, a copy of the program beside this one */
static int add_modprobe(const struct host *host, struct err *err)
{
    char path[PATH_MAX];
    AUTO_FREE char *program = NULL;
    size_t len = 0;
    int r = beside_find("ccnode-sim-modprobe", path, err);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    r = fs_read_fd(fd, path, MODPROBE_MAX, &program, &len, err);
    if (r == 0)
        r = fs_replace(host, "usr/sbin", "modprobe", program, len, 0755, false, err);
    if (r == 0 && symlinkat("usr/sbin", host->root_fd, "sbin") < 0 && errno != EEXIST)
        r = err_errno(err, "link sbin");
    return r;
}

static int write_files(const struct host *host, const struct profile *profile, struct err *err)
{
    struct utsname machine;
    (void)uname(&machine);
    AUTO_FREE char *modules =
        xasprintf("lib/modules/%s", *profile->release ? profile->release : machine.release);
    int r = write_file(host, modules, "modules.alias", modules_alias, err);
    if (r == 0)
        r = write_file(host, modules, "modules.dep", modules_dep, err);
    if (r == 0)
        r = write_file(host, modules, "modules.builtin", "", err);
    if (r == 0)
        r = write_file(host, "etc", "hostname", "sim-node\n", err);
    if (r == 0)
        r = write_file(host, "etc", "os-release", "ID=debian\nPRETTY_NAME=\"simulated node\"\n",
                       err);
    return r < 0 ? r : add_modprobe(host, err);
}

/* The server holds a lock on this file for life: unlike a pid it cannot be mistaken for somebody else's. */
static int lock_fd(const char *root, int flags)
{
    AUTO_FREE char *path = xasprintf("%s/.sim/lock", root);
    return open(path, flags | O_CLOEXEC, 0644);
}

int host_tree_lock(const char *root, struct err *err)
{
    AUTO_FREE char *dir = xasprintf("%s/.sim", root);
    if ((mkdir(root, 0755) < 0 && errno != EEXIST) || (mkdir(dir, 0755) < 0 && errno != EEXIST))
        return err_errno(err, "create %s", dir);
    int fd = lock_fd(root, O_RDWR | O_CREAT); /* never closed: closing would unlock */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        return err_errno(err, "create %s/.sim/lock", root);
    if (fcntl(fd, F_SETLK, &lock) < 0)
        return err_set(err, EBUSY, "%s is served already: ccnode-sim stop --root %s", root, root);
    return 0;
}

pid_t host_tree_pid(const char *root, struct err *err)
{
    AUTO_CLOSE int fd = lock_fd(root, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0)
        return err_set(err, ENOENT, "no simulated node is served below %s", root);
    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return err_set(
            err, ESRCH,
            "the simulated node below %s has ended: ccnode-sim stop --root %s, and start "
            "it again",
            root, root);
    return lock.l_pid;
}

int host_tree_refuse_served(const char *root, struct err *err)
{
    struct err none = ERR_INIT;
    pid_t pid = host_tree_pid(root, &none);
    if (pid <= 0)
        return 0;
    return err_set(err, EBUSY, "%s is served already by pid %d: ccnode-sim stop --root %s", root,
                   (int)pid, root);
}

int host_tree_prepare(const char *root, const struct profile *profile, struct err *err)
{
    host_tree_unmount(root); /* what a killed server left */
    struct host host;
    int r = host_open(&host, root, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(dirs) && r == 0; i++)
        r = fs_mkdirs(&host, dirs[i], err);
    if (r == 0 && symlinkat("../run", host.root_fd, "var/run") < 0 && errno != EEXIST)
        r = err_errno(err, "link %s/var/run", root);
    if (r == 0)
        r = write_files(&host, profile, err);
    host_close(&host);
    return r;
}

static int bind_mount(const char *from, const char *root, const char *name, struct err *err)
{
    AUTO_FREE char *to = xasprintf("%s/%s", root, name);
    if (mount(from, to, NULL, MS_BIND, NULL) < 0)
        return err_errno(err, "bind %s to %s", from, to);
    (void)mount(NULL, to, NULL, MS_PRIVATE, NULL);
    return 0;
}

int host_tree_mount(const char *root, bool with_dev, struct err *err)
{
    AUTO_FREE char *sys = xasprintf("%s/.sim/fs/sys", root);
    AUTO_FREE char *dev = xasprintf("%s/.sim/fs/dev", root);
    int r = bind_mount(sys, root, "sys", err);
    if (r == 0 && with_dev)
        r = bind_mount(dev, root, "dev", err);
    if (r == 0)
        r = bind_mount("/proc", root, "proc", err);
    return r;
}

void host_tree_unmount(const char *root)
{
    static const char *const names[] = {"proc", "dev", "sys", ".sim/fs"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", root, names[i]);
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            ;
    }
}
