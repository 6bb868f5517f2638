/* Device nodes: /dev/vfio/vfio, /dev/vfio/N, /dev/vfio/devices/vfioN, /dev/iommu, /dev/nvidiaN.
 *
 * They are files of the FUSE tree, so that every open and close by any process is seen here and shows in
 * /proc/PID/fd; what ioctls do is the trap library's. With --device-nodes they are real character devices instead
 * (of /dev/null's number, so that a container runtime can make and open them); then nobody counts opens. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/tree/kernel.h"

/* a member is bound through its character device: then the group is taken as well (reference 8) */
static bool member_bound(const struct group *group)
{
    for (size_t i = 0; i < kernel.n_devices; i++)
        if (kernel.devices[i].group == group && pdev_active(&kernel.devices[i]))
            return true;
    return false;
}

/* Opened for reading only it is the trap library's question whether the group itself is open. */
static int open_group(struct node *node, pid_t pid, int flags, uint64_t *ret_handle)
{
    struct group *group = node->owner;
    if (group->open || ((flags & O_ACCMODE) != O_RDONLY && member_bound(group)))
        return -EBUSY;
    group->open = true;
    group->holder = pid;
    *ret_handle = 1;
    return 0;
}

/* The last descriptor of the group is gone, perhaps because its process was killed: so are its device files. */
static void release_group(struct node *node, uint64_t handle)
{
    struct group *group = node->owner;
    (void)handle;
    if (!group)
        return;
    group->open = false;
    group->holder = 0;
    tree_wake();
}
static const struct node_ops group_ops = {.open = open_group, .release = release_group};

static int open_device(struct node *node, pid_t pid, int flags, uint64_t *ret_handle)
{
    struct pdev *dev = node->owner;
    (void)pid, (void)flags;
    dev->opens++;
    *ret_handle = (uint64_t)(uintptr_t)dev;
    return 0;
}
static void release_device(struct node *node, uint64_t handle)
{
    struct pdev *dev = (struct pdev *)(uintptr_t)handle; /* pdevs are never freed */
    (void)node;
    if (dev->opens > 0)
        dev->opens--;
    tree_wake();
}
static const struct node_ops device_ops = {.open = open_device, .release = release_device};
static const struct node_ops plain_ops = {0};

/* a node in the tree, or a real one below the root */
static void make(const char *dir, const char *name, mode_t mode, const struct node_ops *ops,
                 void *owner, struct node **slot)
{
    if (!kernel.device_nodes) {
        node_announce(node_path(dir), name, mode, ops, owner, slot);
        return;
    }
    AUTO_FREE char *path = xasprintf("%s/%s/%s", kernel.root, dir, name);
    (void)mknod(path, S_IFCHR | mode, makedev(1, 3));
    (void)chmod(path, mode);
}

static void drop(struct node **slot, const char *dir, const char *name)
{
    if (!kernel.device_nodes) {
        node_retire(slot); /* whoever has it open keeps a node without owner */
        return;
    }
    AUTO_FREE char *path = xasprintf("%s/%s/%s", kernel.root, dir, name);
    (void)unlink(path);
}

void devnodes_setup(void)
{
    static struct node *container, *iommufd;
    if (!container)
        make("dev/vfio", "vfio", 0666, &plain_ops, NULL, &container);
    if (kernel.profile->cdev && kernel.profile->iommu && !iommufd)
        make("dev", "iommu", 0660, &plain_ops, NULL, &iommufd);
}

static int free_number(size_t member)
{
    for (int no = 0;; no++) {
        bool taken = false;
        for (size_t i = 0; i < kernel.n_devices; i++)
            taken |=
                *(int *)((char *)&kernel.devices[i] + member) == no && kernel.devices[i].present;
        if (!taken)
            return no;
    }
}

static void bind_vfio(struct pdev *dev)
{
    char name[24];
    struct group *group = dev->group;
    dev->vfio_no = free_number(offsetof(struct pdev, vfio_no));
    (void)snprintf(name, sizeof name, "vfio%d", dev->vfio_no);
    dev->vfio_dir = node_dir(dev->dir, "vfio-dev");
    struct node *dir = node_dir(dev->vfio_dir, name);
    if (kernel.profile->cdev) {
        char text[16];
        (void)snprintf(text, sizeof text, "252:%d", dev->vfio_no);
        node_text(dir, "dev", text);
        make("dev/vfio/devices", name, 0600, &device_ops, dev, &dev->dev_node);
    }
    if (!group->node) {
        (void)snprintf(name, sizeof name, "%d", group->number);
        make("dev/vfio", name, 0600, &group_ops, group, &group->node);
    }
}

void devnodes_bind(struct pdev *dev)
{
    char name[24];
    if (dev->driver->vfio) {
        bind_vfio(dev);
    } else if (strcmp(dev->driver->name, "nvidia") == 0) {
        dev->nvidia_no = free_number(offsetof(struct pdev, nvidia_no));
        (void)snprintf(name, sizeof name, "nvidia%d", dev->nvidia_no);
        make("dev", name, 0666, &device_ops, dev, &dev->dev_node);
    }
}

static bool group_on_vfio(const struct group *group, const struct pdev *except)
{
    for (size_t i = 0; i < kernel.n_devices; i++) {
        const struct pdev *d = &kernel.devices[i];
        if (d != except && d->group == group && d->present && d->driver && d->driver->vfio)
            return true;
    }
    return false;
}

void devnodes_unbind(struct pdev *dev)
{
    char name[24];
    if (dev->vfio_no >= 0) {
        (void)snprintf(name, sizeof name, "vfio%d", dev->vfio_no);
        drop(&dev->dev_node, "dev/vfio/devices", name);
        if (dev->vfio_dir)
            node_remove(TAKE(dev->vfio_dir));
        if (!group_on_vfio(dev->group, dev)) {
            (void)snprintf(name, sizeof name, "%d", dev->group->number);
            drop(&dev->group->node, "dev/vfio", name);
            dev->group->open = false;
        }
    } else if (dev->nvidia_no >= 0) {
        (void)snprintf(name, sizeof name, "nvidia%d", dev->nvidia_no);
        drop(&dev->dev_node, "dev", name);
    }
    dev->vfio_no = dev->nvidia_no = -1;
}
