/* The simulated /dev/vfio: containers, groups, character devices, and which device files are open.
 *
 * The nodes are files of the FUSE tree, opened really (so that /proc shows who holds them); what an ioctl means is
 * decided here. Error codes and order are those seen on Linux 6.1, 6.12 and 7.3 (reference kernel-tier 6.5 and 8);
 * a device file is a memfd, its inode tells which one, whatever the descriptor's number became. */
#include "simulator/trap/vfio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HANDLES 64
#define OPEN_FILES 64
/* newer than Debian 12's headers; Linux include/uapi/linux/vfio.h */
#define BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
struct bind_iommufd {
    uint32_t argsz, flags;
    int32_t iommufd;
    uint32_t out_devid;
};

static struct handle handles[HANDLES];

/* groups and containers of this process, by descriptor */
static struct open_file {
    int fd; /* 0 = unused (standard input is neither) */
    bool container;
    int attached; /* group: its container's descriptor, 0 = none */
    bool iommu_set;
} files[OPEN_FILES];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* never taken in a signal handler */

int fail(int error)
{
    errno = error;
    return -1;
}

const struct handle *vfio_handle(int vfio)
{
    return &handles[vfio];
}

/* --- device files ------------------------------------------------------------------------------------------------- */

int vfio_of_fd(int fd)
{
    struct stat st;
    bool any = false;
    for (int i = 0; i < HANDLES; i++)
        any |= handles[i].used;
    if (!any || fstat(fd, &st) < 0)
        return -1;
    for (int i = 0; i < HANDLES; i++)
        if (handles[i].used && handles[i].fd_open && handles[i].dev == st.st_dev &&
            handles[i].ino == st.st_ino)
            return i;
    return -1;
}

int vfio_hw(int vfio)
{
    return handles[vfio].hw;
}

static void release_if_done(int vfio)
{
    struct handle *h = &handles[vfio];
    (void)pthread_mutex_lock(&mutex);
    bool done = h->used && !h->fd_open && !regions_of_vfio(vfio);
    if (done)
        h->used = false;
    (void)pthread_mutex_unlock(&mutex);
    if (!done)
        return;
    int hw = h->hw;
    model_vfio_close(trap_model, hw, getpid());
    if (model_vfio_opens(trap_model, hw) == 0)
        (void)wait_ready(hw); /* the last close() resets, and returns when that is over */
}

void vfio_unmapped(int vfio)
{
    release_if_done(vfio);
}

static int take_handle(int hw, const char *root)
{
    int found = -1;
    (void)pthread_mutex_lock(&mutex);
    for (int i = 0; i < HANDLES && found < 0; i++)
        if (!handles[i].used) {
            found = i;
            handles[i] = (struct handle){.used = true, .hw = hw};
            (void)snprintf(handles[i].root, sizeof handles[i].root, "%s", root);
        }
    (void)pthread_mutex_unlock(&mutex);
    return found;
}

/* opens the device as the first user does: awake, reset, memory on. fd < 0: make one. Return: fd or -1 and errno */
static int open_device(int hw, const char *root, int fd)
{
    struct stat st;
    int vfio = take_handle(hw, root);
    if (vfio < 0)
        return fail(EMFILE);
    int r = model_vfio_opens(trap_model, hw) ? 1 : 0;
    int opened = model_vfio_open(trap_model, hw, getpid());
    int made = fd >= 0 ? fd : memfd_create("vfio-device", MFD_CLOEXEC);
    if (opened < 0 || made < 0 || fstat(made, &st) < 0 || (r == 0 && !wait_ready(hw))) {
        int error = opened < 0 ? -opened : made < 0 ? errno : EIO;
        if (opened == 0)
            model_vfio_close(trap_model, hw, getpid());
        if (made >= 0 && made != fd)
            (void)syscall(SYS_close, made);
        handles[vfio].used = false;
        return fail(error);
    }
    handles[vfio].dev = st.st_dev;
    handles[vfio].ino = st.st_ino;
    handles[vfio].fd_open = true;
    return made;
}

/* another descriptor of the same device file in this process? */
static bool has_other_descriptor(const struct handle *h)
{
    struct stat st;
    bool found = false;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir && !found && (e = readdir(dir));)
        found = *e->d_name != '.' && fstat((int)strtol(e->d_name, NULL, 10), &st) == 0 &&
                st.st_dev == h->dev && st.st_ino == h->ino;
    if (dir)
        (void)closedir(dir);
    return found;
}

/* --- groups and containers ------------------------------------------------------------------------------------------ */

static struct open_file *file_of(int fd, bool container)
{
    struct open_file *free_one = NULL;
    for (int i = 0; i < OPEN_FILES; i++) {
        if (files[i].fd == fd && files[i].container == container)
            return &files[i];
        if (!files[i].fd && !free_one)
            free_one = &files[i];
    }
    if (free_one)
        *free_one = (struct open_file){.fd = fd, .container = container};
    return free_one;
}

static bool container_has_group(int fd)
{
    for (int i = 0; i < OPEN_FILES; i++)
        if (files[i].fd && !files[i].container && files[i].attached == fd)
            return true;
    return false;
}

static int container_ioctl(int fd, unsigned long request, unsigned long arg)
{
    struct open_file *c = file_of(fd, true);
    if (!c)
        return fail(EMFILE);
    switch (request) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        return arg == VFIO_TYPE1_IOMMU || arg == VFIO_TYPE1v2_IOMMU;
    case VFIO_SET_IOMMU:
        if (!container_has_group(fd) || c->iommu_set ||
            (arg != VFIO_TYPE1_IOMMU && arg != VFIO_TYPE1v2_IOMMU))
            return fail(EINVAL);
        c->iommu_set = true;
        return 0;
    case VFIO_IOMMU_MAP_DMA:
    case VFIO_IOMMU_UNMAP_DMA: /* no simulated device does DMA */
        return c->iommu_set ? 0 : fail(EINVAL);
    case VFIO_IOMMU_GET_INFO: {
        struct vfio_iommu_type1_info *info = (void *)arg;
        if (!c->iommu_set || info->argsz < 16)
            return fail(EINVAL);
        info->flags = VFIO_IOMMU_INFO_PGSIZES;
        info->iova_pgsizes = 4096;
        return 0;
    }
    default:
        return fail(ENOTTY);
    }
}

/* by a fault; Linux refuses what a device cgroup forbids when the node is opened already */
static bool is_refused(int hw)
{
    if (model_fault(trap_model, hw, MODEL_FAULT_VFIO_DENIED))
        return fail(EPERM);
    return model_fault(trap_model, hw, MODEL_FAULT_VFIO_WEDGED) && fail(EINVAL);
}

static int get_device_fd(struct open_file *g, const struct file_id *id, const char *bdf)
{
    struct open_file *c = g->attached ? file_of(g->attached, true) : NULL;
    if (!c || !c->iommu_set)
        return fail(EINVAL);
    int hw = model_find(trap_model, bdf);
    if (hw < 0 || !in_group(id->root, id->number, bdf) || !on_vfio(id->root, bdf))
        return fail(ENODEV);
    if (is_refused(hw))
        return -1;
    return open_device(hw, id->root, -1);
}

static int group_ioctl(int fd, const struct file_id *id, unsigned long request, void *arg)
{
    struct open_file *g = file_of(fd, false);
    if (!g)
        return fail(EMFILE);
    switch (request) {
    case VFIO_GROUP_GET_STATUS: {
        struct vfio_group_status *status = arg;
        if (status->argsz < sizeof *status)
            return fail(EINVAL);
        status->flags = viable(id->root, id->number) ? VFIO_GROUP_FLAGS_VIABLE : 0;
        if (g->attached)
            status->flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
        return 0;
    }
    case VFIO_GROUP_SET_CONTAINER: {
        struct file_id other;
        int container = *(const int *)arg;
        if (g->attached)
            return fail(EINVAL);
        if (!identify(container, &other) || other.kind != FILE_CONTAINER)
            return fail(EBADF);
        if (!viable(id->root, id->number))
            return fail(EPERM);
        g->attached = container;
        return 0;
    }
    case VFIO_GROUP_UNSET_CONTAINER:
        if (!g->attached)
            return fail(EINVAL);
        g->attached = 0;
        return 0;
    case VFIO_GROUP_GET_DEVICE_FD:
        return get_device_fd(g, id, arg);
    default:
        return fail(ENOTTY);
    }
}

/* Return: whether somebody has the legacy group of this device open */
static bool group_busy(const struct file_id *id)
{
    char path[PATH_MAX + 96], target[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/iommu_group", id->root,
                   model_desc(trap_model, id->hw)->bdf);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    const char *number = strrchr(target, '/');
    (void)snprintf(path, sizeof path, "%s/dev/vfio%s", id->root, number ? number : "");
    /* for reading only: else it is busy when somebody has the character device bound, too (tree/devnodes.c) */
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == EBUSY;
    (void)syscall(SYS_close, fd);
    return false;
}

static int cdev_ioctl(int fd, const struct file_id *id, unsigned long request, void *arg)
{
    struct bind_iommufd *bind = arg;
    struct file_id iommufd;
    if (request != BIND_IOMMUFD || bind->argsz < sizeof *bind || bind->flags)
        return fail(EINVAL); /* everything before a bind */
    if (!identify(bind->iommufd, &iommufd) || iommufd.kind != FILE_IOMMUFD)
        return fail(EBADF);
    if (group_busy(id))
        return fail(EBUSY);
    if (model_vfio_opens(trap_model, id->hw) > 0)
        return fail(EINVAL);
    if (is_refused(id->hw))
        return -1;
    if (open_device(id->hw, id->root, fd) < 0)
        return -1;
    bind->out_devid = 1;
    return 0;
}

/* --- what programs call ------------------------------------------------------------------------------------------------ */

TRAP_EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    struct file_id id;
    int vfio = -1;
    if (!trap_model || _IOC_TYPE(request) != VFIO_TYPE)
        return (int)syscall(SYS_ioctl, fd, request, arg);
    vfio = vfio_of_fd(fd);
    if (vfio >= 0)
        return device_ioctl(vfio, request, arg);
    if (!identify(fd, &id))
        return (int)syscall(SYS_ioctl, fd, request, arg);
    switch (id.kind) {
    case FILE_CONTAINER:
        return container_ioctl(fd, request, (unsigned long)arg);
    case FILE_GROUP:
        return group_ioctl(fd, &id, request, arg);
    case FILE_CDEV:
        return cdev_ioctl(fd, &id, request, arg);
    case FILE_IOMMUFD: /* address spaces: nothing does DMA */
        return 0;
    case FILE_RESOURCE:
    case FILE_OTHER:
    default:
        return fail(ENOTTY);
    }
}

static void forget_file(int fd)
{
    for (int i = 0; i < OPEN_FILES; i++) {
        if (files[i].fd == fd)
            files[i] = (struct open_file){0};
        else if (files[i].attached == fd)
            files[i].attached = 0;
    }
}

TRAP_EXPORT int close(int fd)
{
    int vfio = trap_model && fd >= 0 ? vfio_of_fd(fd) : -1;
    if (trap_model && fd > 0)
        forget_file(fd);
    int r = (int)syscall(SYS_close, fd);
    if (vfio >= 0 && !has_other_descriptor(&handles[vfio])) {
        handles[vfio].fd_open = false;
        release_if_done(vfio);
    }
    return r;
}

static ssize_t access_at(int fd, void *buf, size_t n, off_t at, bool write)
{
    struct file_id id;
    int vfio = trap_model ? vfio_of_fd(fd) : -1;
    if (vfio >= 0 && at >= 0)
        return device_access(vfio, buf, n, (uint64_t)at, write);
    if (trap_model && at >= 0 && identify(fd, &id) && id.kind == FILE_CDEV)
        return fail(EINVAL);
    return syscall(write ? SYS_pwrite64 : SYS_pread64, fd, buf, n, at);
}

TRAP_EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
    return access_at(fd, buf, n, at, false);
}
TRAP_EXPORT ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
    return access_at(fd, buf, n, at, false);
}
TRAP_EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
    return access_at(fd, (void *)(uintptr_t)buf, n, at, true);
}
TRAP_EXPORT ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
    return access_at(fd, (void *)(uintptr_t)buf, n, at, true);
}

/* what the two reads become with _FORTIFY_SOURCE */
TRAP_EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t room);
TRAP_EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t room);

TRAP_EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t room)
{
    if (n > room)
        abort();
    return access_at(fd, buf, n, at, false);
}
TRAP_EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t room)
{
    if (n > room)
        abort();
    return access_at(fd, buf, n, at, false);
}
