#include "node-agent/gpu/users.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/sysfs.h"
#include "node-agent/gpu/users_node.h"

struct scan {
    const struct host *host;
    const struct nv_device *devices;
    size_t n;
    struct users *ret;
    struct node_table nodes;
    struct stat self; /* our own executable */
    /* the process at hand */
    int pid, proc_fd;
    char comm[32];
    bool anon_device;             /* has a VFIO device open that does not say which */
    bool seen[NV_MAX_DEVICES];    /* already reported for this process */
    size_t named[NV_MAX_DEVICES]; /* processes in ret, of each device */
};

static void report(struct scan *scan, size_t device, const char *what)
{
    struct users *users = scan->ret;
    if (scan->seen[device])
        return;
    scan->seen[device] = true;
    if (scan->named[device] == NV_MAX_HOLDERS)
        return; /* it is in use, and room is left for the users of every other device */
    scan->named[device]++;
    if (!*scan->comm) /* few processes are reported: only their names are read */
        sysfs_word(scan->proc_fd, "comm", scan->comm, sizeof scan->comm);
    struct user *user = &users->list[users->n++];
    *user = (struct user){.holder.pid = scan->pid};
    (void)snprintf(user->bdf, sizeof user->bdf, "%s", scan->devices[device].bdf);
    (void)snprintf(user->holder.comm, sizeof user->holder.comm, "%s", scan->comm);
    (void)snprintf(user->holder.what, sizeof user->holder.what, "%.63s", what);
}

/* ---- one descriptor ---- */

static void look_at_node(struct scan *scan, const char *fd_path, const char *target)
{
    struct stat st;
    bool match[NV_MAX_DEVICES];
    if (!node_table_is_candidate(target) || fstatat(scan->proc_fd, fd_path, &st, 0) < 0)
        return;
    node_table_match(&scan->nodes, target, &st, scan->devices, scan->n, match);
    for (size_t i = 0; i < scan->n; i++) {
        if (match[i])
            report(scan, i, node_table_short_name(target));
    }
}

/* From Linux 7.x on the descriptor names its device. */
static void look_at_anon_device(struct scan *scan, const char *number)
{
    struct err ignored = ERR_INIT;
    char path[64];
    AUTO_FREE char *text = NULL;
    scan->anon_device = true;
    (void)snprintf(path, sizeof path, "fdinfo/%.20s", number);
    AUTO_CLOSE int fd = openat(scan->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fs_read_fd(fd, path, 65536, &text, NULL, &ignored) < 0)
        return;
    char *at = strstr(text, "vfio-device-syspath:");
    if (!at)
        return;
    at[strcspn(at, "\n")] = '\0';
    for (size_t i = 0; i < scan->n; i++) {
        const char *slash = strrchr(at, '/');
        if (slash && strcmp(slash + 1, scan->devices[i].bdf) == 0)
            report(scan, i, "vfio-device");
    }
}

/* Without CAP_SYS_PTRACE the descriptors of a stronger process are listed, but not what they are. With it, only
 * what a security module or a user namespace above ours hides is refused still, and passed over. */
static bool may_look_everywhere(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[0].effective & (1U << CAP_SYS_PTRACE)) != 0;
}

static int look_at_fd(struct scan *scan, const char *number)
{
    char path[64], target[PATH_MAX];
    (void)snprintf(path, sizeof path, "fd/%.20s", number);
    ssize_t n = readlinkat(scan->proc_fd, path, target, sizeof target - 1);
    if (n < 0 && (errno == EACCES || errno == EPERM) && !may_look_everywhere())
        return -EACCES;
    if (n <= 0)
        return 0; /* closed meanwhile */
    target[n] = '\0';
    if (strcmp(target, "anon_inode:[vfio-device]") == 0)
        look_at_anon_device(scan, number);
    else
        look_at_node(scan, path, target);
    return 0;
}

/* Return: 0 also when the process is gone; -EACCES it can't be looked at. */
static int look_at_fds(struct scan *scan)
{
    int fd = openat(scan->proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES || errno == EPERM ? -EACCES : 0;
    AUTO_CLOSEDIR DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return 0;
    }
    int r = 0;
    for (const struct dirent *e = readdir(dir); e && r == 0; e = readdir(dir)) {
        if (e->d_name[0] != '.')
            r = look_at_fd(scan, e->d_name);
    }
    return r;
}

/* ---- mappings: they keep a device in use after its descriptor was closed ---- */

/* map_files leads to the node itself where we may look. */
static void look_at_mapping(struct scan *scan, const char *line)
{
    char path[64], what[64];
    struct mapping mapping;
    struct stat st = {0};
    bool match[NV_MAX_DEVICES];
    if (!mapping_parse(line, &mapping))
        return;
    const char *name = mapping.name;
    if (strcmp(name, "anon_inode:[vfio-device]") == 0)
        scan->anon_device = true;
    if (!node_table_is_candidate(name))
        return;
    (void)snprintf(path, sizeof path, "map_files/%s", mapping.range);
    if (fstatat(scan->proc_fd, path, &st, 0) < 0) {
        st.st_dev = makedev(mapping.major, mapping.minor);
        st.st_ino = mapping.inode;
    }
    node_table_match(&scan->nodes, name, &st, scan->devices, scan->n, match);
    (void)snprintf(what, sizeof what, "mapping of %.48s", node_table_short_name(name));
    for (size_t i = 0; i < scan->n; i++) {
        if (match[i])
            report(scan, i, what);
    }
}

static void look_at_maps(struct scan *scan)
{
    AUTO_CLOSE int fd = openat(scan->proc_fd, "maps", O_RDONLY | O_CLOEXEC);
    AUTO_FCLOSE FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    AUTO_FREE char *line = NULL;
    size_t room = 0;
    if (!f)
        return;
    fd = -1; /* the stream has it */
    while (getline(&line, &room, f) > 0) {
        /* most lines are libraries and heap: looked at only when a name could be ours */
        if (!strstr(line, "vfio") && !strstr(line, "resource0") && !strstr(line, "/dev/nvidia"))
            continue;
        line[strcspn(line, "\n")] = '\0';
        look_at_mapping(scan, line);
    }
}

/* A VFIO device without a name belongs to a group or device that the process must have open as well; when it has none
 * (passed on by another process), nobody can say which: all VFIO devices that are awake are then held. */
static void blame_anon_device(struct scan *scan)
{
    bool any = false;
    for (size_t i = 0; i < scan->n; i++)
        any = any || scan->seen[i];
    for (size_t i = 0; i < scan->n && !any; i++) {
        if ((scan->devices[i].driver_is_vfio || !*scan->devices[i].driver) &&
            inventory_is_enabled(scan->host, scan->devices[i].bdf))
            report(scan, i, "a vfio-device that does not say which");
    }
}

/* ---- one process ---- */

static bool is_own_program(const struct scan *scan)
{
    struct stat st;
    return fstatat(scan->proc_fd, "exe", &st, 0) == 0 && st.st_dev == scan->self.st_dev &&
           st.st_ino == scan->self.st_ino;
}

/* The lock file of a device (lock.h) is open in a worker and nowhere else, and root alone can open it. */
static bool has_lock(const struct scan *scan, const char *bdf)
{
    struct err ignored = ERR_INIT;
    struct stat lock, st;
    char path[64];
    (void)snprintf(path, sizeof path, LOCK_DIR "/%.12s", bdf);
    AUTO_CLOSE int lock_fd = host_openat(scan->host, path, O_PATH, &ignored);
    if (lock_fd < 0 || fstat(lock_fd, &lock) < 0)
        return false;
    int fd = openat(scan->proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] != '.' && fstatat(fd, e->d_name, &st, 0) == 0 &&
            st.st_dev == lock.st_dev && st.st_ino == lock.st_ino)
            return true;
    }
    return false;
}

/* A worker of another image, as an agent before us leaves one behind, is no user: the lock keeps others from what it has. */
static void forget_worker(struct scan *scan, size_t before)
{
    struct users *users = scan->ret;
    size_t kept = before;
    for (size_t i = before; i < users->n; i++) {
        size_t d = 0;
        while (d < scan->n && strcmp(scan->devices[d].bdf, users->list[i].bdf) != 0)
            d++;
        if (d < scan->n && has_lock(scan, users->list[i].bdf))
            scan->named[d]--;
        else
            users->list[kept++] = users->list[i];
    }
    users->n = kept;
}

static int look_at_process(struct scan *scan, int list_fd, const char *pid)
{
    scan->pid = atoi(pid); /* NOLINT(cert-err34-c): digits were checked */
    AUTO_CLOSE int fd = openat(list_fd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    scan->proc_fd = fd;
    scan->anon_device = false;
    memset(scan->seen, 0, sizeof scan->seen);
    if (is_own_program(scan))
        return 0;
    *scan->comm = '\0';
    size_t before = scan->ret->n;
    int r = look_at_fds(scan);
    if (r < 0)
        return r;
    look_at_maps(scan);
    if (scan->anon_device)
        blame_anon_device(scan);
    forget_worker(scan, before);
    return 0;
}

int users_scan(const struct host *host, const struct nv_device *devices, size_t n,
               struct users *ret, struct err *err)
{
    struct scan scan = {.host = host, .devices = devices, .n = n, .ret = ret};
    ret->n = 0;
    if (n == 0)
        return 0;
    if (n > NV_MAX_DEVICES)
        return err_set(err, E2BIG, "more than %d devices", NV_MAX_DEVICES);
    if (stat("/proc/self/exe", &scan.self) < 0)
        return err_errno(err, "look at /proc/self/exe");
    node_table_fill(&scan.nodes, host, devices, n);
    int list_fd = host_openat(host, "/proc", O_RDONLY | O_DIRECTORY, err);
    if (list_fd < 0)
        return list_fd;
    AUTO_CLOSEDIR DIR *dir = fdopendir(list_fd);
    if (!dir) {
        (void)close(list_fd);
        return err_set(err, ENOMEM, "list /proc");
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (sysfs_number(e->d_name, INT_MAX / 10) <= 0)
            continue;
        if (look_at_process(&scan, list_fd, e->d_name) < 0)
            return err_set(err, EACCES,
                           "process %s can't be looked at (needs CAP_SYS_PTRACE), so it is not "
                           "known who uses the devices",
                           e->d_name);
    }
    return 0;
}

/* ---- before a step that would harm ---- */

static int name_holder(const struct nv_holder *h, bool others, struct err *err)
{
    return err_set(err, EBUSY, "in use by %s (pid %d, %s)%s", *h->comm ? h->comm : "a process",
                   h->pid, h->what, others ? " and others" : "");
}

int users_name(const struct host *host, const struct nv_device *dev, struct err *err)
{
    struct err ignored = ERR_INIT;
    struct users *users = xcalloc(1, sizeof *users);
    if (users_scan(host, dev, 1, users, &ignored) == 0 && users->n > 0)
        (void)name_holder(&users->list[0].holder, users->n > 1, err);
    free(users);
    err->code = EBUSY;
    return -EBUSY;
}

/* Every process, for one device. All devices are looked for: one that is known to have another is not suspected of
 * having this one by a descriptor that does not say which. */
static int search(const struct host *host, const struct nv_device *dev, struct err *err)
{
    struct nv_inventory *inventory = xcalloc(1, sizeof *inventory);
    struct users *users = xcalloc(1, sizeof *users);
    const struct nv_holder *first = NULL;
    size_t n = 0;
    bool listed = false;
    int r = inventory_scan(host, NULL, inventory, err);
    if (r == 0)
        r = users_scan(host, inventory->devices, inventory->n, users, err);
    for (size_t i = 0; r == 0 && i < inventory->n; i++)
        listed = listed || strcmp(inventory->devices[i].bdf, dev->bdf) == 0;
    for (size_t i = 0; r == 0 && i < users->n; i++) {
        if (strcmp(users->list[i].bdf, dev->bdf) != 0)
            continue;
        first = first ? first : &users->list[i].holder;
        n++;
    }
    if (r == 0 && !listed)
        r = err_set(err, ENODEV, "the device is gone");
    else if (first)
        r = name_holder(first, n > 1, err);
    free(users);
    free(inventory);
    return r;
}

/* VFIO lets a group be open once, by whatever way its devices are used. Return: 0 nobody has it; 1 that can't be tried:
 * the device cgroup of a container that is not privileged forbids VFIO nodes, for example; -EBUSY. */
static int try_group(const struct host *host, const struct nv_device *dev, struct err *err)
{
    struct err why = ERR_INIT;
    char path[48];
    (void)snprintf(path, sizeof path, "/dev/vfio/%d", dev->iommu_group);
    AUTO_CLOSE int fd = host_openat(host, path, O_RDWR, &why);
    if (fd == -EBUSY) {
        *err = why;
        return users_name(host, dev, err);
    }
    return fd < 0;
}

int users_refuse(const struct host *host, const struct nv_device *dev, int64_t *seen_us,
                 struct err *err)
{
    int64_t now = mmio_now_us();
    bool foreign = *dev->driver && !dev->driver_is_vfio;
    bool look = foreign || *seen_us == 0 || now - *seen_us > USERS_FRESH_US;
    int r = dev->group_node && !foreign ? try_group(host, dev, err) : 0;
    if (r < 0)
        return r;
    if (look || r == 1) {
        r = search(host, dev, err);
        if (r < 0)
            return r;
        *seen_us = now;
    }
    /* a device that VFIO has awake is open in some process, also by character device alone (REF-L 6.7) */
    if (dev->driver_is_vfio && inventory_is_enabled(host, dev->bdf)) {
        (void)err_set(err, EBUSY, "someone has it open through VFIO");
        return users_name(host, dev, err);
    }
    return 0;
}
