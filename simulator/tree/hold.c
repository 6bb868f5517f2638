#include "simulator/tree/hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "simulator/tree/exec.h"

static const char holder_name[] = "ccnode-sim", holder_command[] = "hold-device";

/* Descriptors are kept on purpose: holding them is what this program is for. */
static int keep(const char *root, const char *path, struct err *err)
{
    AUTO_FREE char *full = xasprintf("%s%s", root, path);
    int fd = open(full, O_RDWR);
    return fd < 0 ? err_errno(err, "open %s", full) : fd;
}

static int group_path(const char *root, const char *bdf, char *ret, size_t room, struct err *err)
{
    char target[PATH_MAX];
    AUTO_FREE char *link = xasprintf("%s/sys/bus/pci/devices/%s/iommu_group", root, bdf);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0)
        return err_errno(err, "read %s", link);
    target[n] = '\0';
    (void)snprintf(ret, room, "/dev/vfio/%s", strrchr(target, '/') + 1);
    return 0;
}

static int hold_group(const char *root, const char *bdf, struct err *err)
{
    char path[64];
    int r = group_path(root, bdf, path, sizeof path, err);
    return r < 0 ? r : keep(root, path, err);
}

static int hold_device(const char *root, const char *bdf, struct err *err)
{
    int group = hold_group(root, bdf, err);
    int container = group < 0 ? group : keep(root, "/dev/vfio/vfio", err);
    if (container < 0)
        return container;
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0)
        return err_errno(err, "VFIO_GROUP_SET_CONTAINER");
    if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
        return err_errno(err, "VFIO_SET_IOMMU");
    int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
    if (device < 0)
        return err_errno(err, "VFIO_GROUP_GET_DEVICE_FD");
    /* as a VM does; the kernel takes the BAR away from resource0 only then */
    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) < 0)
        return err_errno(err, "VFIO_DEVICE_GET_REGION_INFO");
    void *map = mmap(NULL, bar.size, PROT_READ, MAP_SHARED, device, (off_t)bar.offset);
    return map == MAP_FAILED ? err_errno(err, "map BAR 0") : 0;
}

static int hold_cdev_open(const char *root, const char *bdf, struct err *err)
{
    AUTO_FREE char *dir = xasprintf("%s/sys/bus/pci/devices/%s/vfio-dev", root, bdf);
    AUTO_CLOSEDIR DIR *d = opendir(dir);
    if (!d)
        return err_errno(err, "list %s", dir);
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "vfio", 4) != 0)
            continue;
        AUTO_FREE char *path = xasprintf("/dev/vfio/devices/%s", e->d_name);
        return keep(root, path, err);
    }
    return err_set(err, ENOENT, "%s has no VFIO character device", bdf);
}

/* newer than Debian 12's headers; Linux include/uapi/linux/vfio.h */
#define BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
struct bind_iommufd {
    uint32_t argsz, flags;
    int32_t iommufd;
    uint32_t out_devid;
};

static int hold_cdev(const char *root, const char *bdf, struct err *err)
{
    int cdev = hold_cdev_open(root, bdf, err);
    int iommu = cdev < 0 ? cdev : keep(root, "/dev/iommu", err);
    if (iommu < 0)
        return iommu;
    struct bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
    if (ioctl(cdev, BIND_IOMMUFD, &bind) < 0)
        return err_errno(err, "VFIO_DEVICE_BIND_IOMMUFD");
    return 0;
}

static int hold_resource0(const char *root, const char *bdf, struct err *err)
{
    AUTO_FREE char *path = xasprintf("/sys/bus/pci/devices/%s/resource0", bdf);
    struct stat st;
    int fd = keep(root, path, err);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd < 0 ? fd : err_errno(err, "stat %s", path);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? err_errno(err, "map %s", path) : 0;
}

static int hold_nvidia(const char *root, const char *bdf, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/.sim/fs/ctl/devices", root);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    char line[256], node[32];
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, " nvidia=");
        if (strncmp(line, bdf, strlen(bdf)) == 0 && at && at[8] >= '0' && at[8] <= '9') {
            (void)snprintf(node, sizeof node, "/dev/nvidia%lu", strtoul(at + 8, NULL, 10));
            return keep(root, node, err);
        }
    }
    return err_set(err, ENODEV, "%s is not bound to the nvidia driver", bdf);
}

static const struct {
    const char *name;
    int (*hold)(const char *root, const char *bdf, struct err *err);
} ways[] = {{"group", hold_group},         {"device", hold_device},       {"cdev", hold_cdev},
            {"cdev-open", hold_cdev_open}, {"resource0", hold_resource0}, {"nvidia", hold_nvidia}};

int hold_main(const char *root, int argc, char **argv)
{
    struct err err = ERR_INIT;
    int r = err_set(&err, EINVAL,
                    "hold: BDF and one of group, device, cdev, cdev-open, resource0, nvidia");
    for (size_t i = 0; argc == 3 && i < ARRAY_LEN(ways); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            r = ways[i].hold(root, argv[0], &err);
    if (r < 0) {
        (void)printf("%s\n", err.msg);
        return EXIT_FAILURE;
    }
    (void)printf("held\n");
    (void)fflush(stdout);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        (void)dup2(null, fd);
    unsigned seconds = (unsigned)strtoul(argv[2], NULL, 10);
    (void)signal(SIGTERM, SIG_DFL);
    if (seconds > 0)
        (void)sleep(seconds);
    else
        for (;;)
            (void)pause();
    return EXIT_SUCCESS;
}

/* the child of hold_start() */
static void become_holder(const char *root, const char *bdf, const char *how, unsigned seconds,
                          int answer_fd)
{
    char limit[16];
    (void)snprintf(limit, sizeof limit, "%u", seconds);
    (void)setsid();
    (void)dup2(answer_fd, STDOUT_FILENO);
    (void)execl("/proc/self/exe", holder_name, holder_command, "--root", root, bdf, how, limit,
                (char *)NULL);
    _exit(127);
}

int hold_start(const char *root, const char *bdf, const char *how, unsigned seconds, pid_t *ret,
               struct err *err)
{
    int fds[2];
    char answer[ERR_MSG_SIZE] = "";
    int r = exec_env(root, err);
    if (r < 0)
        return r;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        become_holder(root, bdf, how, seconds, fds[1]);
    (void)close(fds[1]);
    ssize_t n = pid > 0 ? read(fds[0], answer, sizeof answer - 1) : -1;
    (void)close(fds[0]);
    answer[n > 0 ? n : 0] = '\0';
    answer[strcspn(answer, "\n")] = '\0';
    if (strcmp(answer, "held") != 0)
        return err_set(err, EIO, "%s not held: %s", bdf, *answer ? answer : "the holder ended");
    *ret = pid;
    return 0;
}

/* Is this process one of our holders? Its command line: NAME COMMAND --root ROOT BDF HOW SECONDS */
static bool is_holder(const char *pid, const char *root, char *buf, size_t room, struct holder *ret)
{
    AUTO_FREE char *path = xasprintf("/proc/%s/cmdline", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);
    const char *words[7];
    size_t count = 0;
    if (n <= 0)
        return false;
    buf[n] = '\0';
    for (const char *at = buf; at < buf + n && count < ARRAY_LEN(words); at += strlen(at) + 1)
        words[count++] = at;
    if (count < ARRAY_LEN(words) || strcmp(words[1], holder_command) != 0 ||
        strcmp(words[3], root) != 0)
        return false;
    *ret = (struct holder){.pid = (pid_t)strtol(pid, NULL, 10), .bdf = words[4], .how = words[5]};
    return true;
}

int hold_each(const char *root, void (*cb)(void *arg, const struct holder *holder), void *arg)
{
    char buf[PATH_MAX + 128];
    struct holder holder;
    int n = 0;
    AUTO_CLOSEDIR DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        if (*e->d_name < '1' || *e->d_name > '9' ||
            !is_holder(e->d_name, root, buf, sizeof buf, &holder))
            continue;
        cb(arg, &holder);
        n++;
    }
    return n;
}

struct release {
    const char *bdf;
    int killed;
};

static void end_holder(void *arg, const struct holder *holder)
{
    struct release *release = arg;
    if (*release->bdf && strcmp(release->bdf, holder->bdf) != 0)
        return;
    if (kill(holder->pid, SIGKILL) == 0)
        release->killed++;
}

int hold_release(const char *root, const char *bdf)
{
    int ended = 0;
    for (int tries = 0; tries < 500;
         tries++) { /* until none is seen any more: zombies have no command line */
        struct release release = {.bdf = bdf};
        (void)hold_each(root, end_holder, &release);
        if (release.killed == 0)
            break;
        if (tries == 0)
            ended = release.killed;
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return ended;
}
