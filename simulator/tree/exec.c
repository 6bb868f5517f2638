#include "simulator/tree/exec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/tree/beside.h"

#define FUSE_MAGIC 0x65735546 /* Linux include/uapi/linux/magic.h: FUSE_SUPER_MAGIC */

static const char trap_name[] = "libccnode-sim-trap.so";

int exec_env(const char *root, struct err *err)
{
    char trap[PATH_MAX];
    int r = beside_find(trap_name, trap, err);
    if (r < 0)
        return r;
    const char *old = getenv("LD_PRELOAD");
    AUTO_FREE char *preload =
        old && *old && !strstr(old, trap_name) ? xasprintf("%s:%s", trap, old) : xstrdup(trap);
    AUTO_FREE char *state = xasprintf("%s/.sim/state", root);
    (void)setenv("LD_PRELOAD", preload, 1);
    (void)setenv("CCNODE_SIM_STATE", state, 1);
    (void)setenv("CCNODE_SIM_ROOT", root, 1);
    return 0;
}

static int bind_over(const char *from, const char *to, struct err *err)
{
    if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
        return err_errno(err, "bind %s over %s", from, to);
    return 0;
}

/* one entry of the old /dev in the new one */
static int copy_entry(int old_dev, const struct dirent *e, struct err *err)
{
    struct stat st;
    if (fstatat(old_dev, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; /* gone meanwhile */
    AUTO_FREE char *from = xasprintf("/proc/self/fd/%d/%s", old_dev, e->d_name);
    AUTO_FREE char *to = xasprintf("/dev/%s", e->d_name);
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(old_dev, e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        return n > 0 && symlink(target, to) < 0 ? err_errno(err, "link %s", to) : 0;
    }
    if (S_ISDIR(st.st_mode) ? mkdir(to, 0755) < 0 : mknod(to, S_IFREG | 0600, 0) < 0)
        return err_errno(err, "create %s", to);
    return bind_over(from, to, err);
}

/* A /dev of our own: what the real one has except NVIDIA and VFIO nodes, then the simulated nodes. */
static int replace_dev(const char *root, struct err *err)
{
    AUTO_FREE char *ours = xasprintf("%s/dev", root);
    AUTO_CLOSE int old_dev = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int sim_dev = open(ours, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old_dev < 0 || sim_dev < 0)
        return err_errno(err, "open %s", old_dev < 0 ? "/dev" : ours);
    if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m") < 0)
        return err_errno(err, "mount a private /dev");
    for (int k = 0; k < 2; k++) { /* 0: the real entries, 1: the simulated ones */
        int from = k ? sim_dev : old_dev;
        AUTO_CLOSEDIR DIR *dir = fdopendir(dup(from));
        if (!dir)
            return err_errno(err, "list /dev");
        for (struct dirent *e; (e = readdir(dir));) {
            bool theirs = strncmp(e->d_name, "nvidia", 6) == 0 || strcmp(e->d_name, "vfio") == 0 ||
                          strcmp(e->d_name, "iommu") == 0;
            if (*e->d_name == '.' || (k == 0 && theirs) || (k == 1 && !theirs))
                continue;
            int r = copy_entry(from, e, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int exec_namespace(const char *root, struct err *err)
{
    struct statfs fs;
    AUTO_FREE char *sys = xasprintf("%s/sys", root);
    if (statfs(sys, &fs) < 0 || fs.f_type != FUSE_MAGIC)
        return err_set(err, EPERM, "%s is not a simulated /sys: is ccnode-sim serving %s?", sys,
                       root);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(err, "make a private mount namespace (needs root)");
    int r = bind_over(sys, "/sys", err);
    if (r == 0)
        r = replace_dev(root, err);
    if (r < 0)
        return r;
    if (statfs("/sys/bus/pci/devices", &fs) < 0 || fs.f_type != FUSE_MAGIC)
        return err_set(err, EPERM,
                       "refused: /sys is still the real one, real devices would be visible");
    return 0;
}
