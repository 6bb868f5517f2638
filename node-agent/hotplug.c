#include "node-agent/hotplug.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/sysfs.h"

#define UEVENT_MAX 8192
#define DRIVERS_EVERY                                                                              \
    5 /* polls: names are looked at in each, drivers (a link per device) in every fifth */
#define KERNEL_GROUP 1 /* multicast group of the kernel's own uevents, not udev's */

struct hotplug {
    struct loop *loop;
    const struct host *host;
    void (*on_change)(void *arg);
    void *arg;
    int inotify_fd, uevent_fd;
    struct loop_fd *inotify_source, *uevent_source;
    int vfio_watch; /* -1 = /dev/vfio is not there: /dev is watched for it */
    int list_fd; /* the directory of all PCI devices, kept open: a listing is three system calls */
    unsigned polls;
    bool have_names, have_drivers;
    uint64_t names, drivers; /* fingerprints */
    size_t n; /* functions whose driver matters: devices and what is in their groups */
    char (*bdfs)[BDF_SIZE];
};

static void add_watches(struct hotplug *h)
{
    AUTO_FREE char *vfio = host_path(h->host, "/dev/vfio");
    AUTO_FREE char *dev = host_path(h->host, "/dev");
    h->vfio_watch = inotify_add_watch(h->inotify_fd, vfio, IN_CREATE | IN_DELETE | IN_DELETE_SELF);
    if (h->vfio_watch < 0)
        (void)inotify_add_watch(h->inotify_fd, dev, IN_CREATE | IN_ONESHOT);
}

static void on_inotify(void *arg, int fd, uint32_t events)
{
    struct hotplug *h = arg;
    char buf[4096] __attribute__((aligned(8)));
    (void)events;
    while (read(fd, buf, sizeof buf) > 0) {
    }
    add_watches(h); /* adding one that is there changes nothing */
    h->on_change(h->arg);
}

/* "add@/devices/pci0000:00/…\0ACTION=add\0SUBSYSTEM=pci\0…": only the subsystem matters. */
bool hotplug_concerns_pci(const char *text, size_t len)
{
    for (size_t at = 0; at < len; at += strnlen(text + at, len - at) + 1) {
        if (len - at >= 13 && memcmp(text + at, "SUBSYSTEM=pci", 13) == 0)
            return len - at == 13 || text[at + 13] == '\0';
    }
    return false;
}

static void on_uevent(void *arg, int fd, uint32_t events)
{
    struct hotplug *h = arg;
    char text[UEVENT_MAX];
    bool pci = false;
    ssize_t n;
    (void)events;
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t room = sizeof from;
        n = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &room);
        if (n == 0 || (n < 0 && errno != ENOBUFS))
            break;
        if (n < 0)
            pci = true; /* overrun: anything may have been */
        else if (from.nl_pid == 0)
            pci = pci || hotplug_concerns_pci(
                             text, (size_t)n); /* others than the kernel are not believed */
    }
    if (pci)
        h->on_change(h->arg);
}

static void open_uevents(struct hotplug *h)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    h->uevent_fd =
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (h->uevent_fd < 0)
        return; /* seccomp or a kernel without: the other two sources remain */
    if (bind(h->uevent_fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        (void)close(h->uevent_fd);
        h->uevent_fd = -1;
        return;
    }
    h->uevent_source = loop_add_fd(h->loop, h->uevent_fd, EPOLLIN, on_uevent, h);
}

int hotplug_poll_ms(const struct hotplug *h)
{
    return h->uevent_fd >= 0 ? HOTPLUG_SURE_POLL_MS : HOTPLUG_POLL_MS;
}

struct hotplug *hotplug_new(struct loop *loop, const struct host *host,
                            void (*on_change)(void *arg), void *arg)
{
    struct hotplug *h = xcalloc(1, sizeof *h);
    *h = (struct hotplug){.loop = loop, .host = host, .on_change = on_change, .arg = arg};
    h->uevent_fd = h->list_fd = -1;
    if (sysfs_is_of_kernel(host))
        open_uevents(h);
    h->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (h->inotify_fd >= 0) {
        add_watches(h);
        h->inotify_source = loop_add_fd(loop, h->inotify_fd, EPOLLIN, on_inotify, h);
    }
    return h;
}

void hotplug_free(struct hotplug *h)
{
    if (!h)
        return;
    loop_remove_fd(h->inotify_source);
    loop_remove_fd(h->uevent_source);
    if (h->inotify_fd >= 0)
        (void)close(h->inotify_fd);
    if (h->uevent_fd >= 0)
        (void)close(h->uevent_fd);
    if (h->list_fd >= 0)
        (void)close(h->list_fd);
    free(h->bdfs);
    free(h);
}

/* FNV-1a (Fowler, Noll, Vo) */
static uint64_t hash(const char *a, const char *b)
{
    uint64_t h = 14695981039346656037u;
    for (; *a; a++)
        h = (h ^ (unsigned char)*a) * 1099511628211u;
    h = (h ^ 1) * 1099511628211u;
    for (; *b; b++)
        h = (h ^ (unsigned char)*b) * 1099511628211u;
    return h;
}

/* The order of a directory is not promised, so the hashes of its entries are added. */
static int list_names(int list_fd, uint64_t *ret)
{
    /* not readdir(): opening a stream asks for more than the listing itself costs */
    char buf[16384] __attribute__((aligned(8)));
    *ret = 0;
    ssize_t n = lseek(list_fd, 0, SEEK_SET);
    while (n >= 0 && (n = getdents64(list_fd, buf, sizeof buf)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(buf + at);
            at += e->d_reclen;
            if (*e->d_name != '.')
                *ret += hash(e->d_name, "");
        }
    }
    return n < 0 ? -errno : 0;
}

/* Return: false when the devices cannot be listed. */
static bool take_names(struct hotplug *h, uint64_t *ret)
{
    struct err ignored = ERR_INIT;
    if (h->list_fd < 0)
        h->list_fd = host_openat(h->host, "/sys/bus/pci/devices", O_RDONLY | O_DIRECTORY, &ignored);
    if (h->list_fd < 0)
        return false;
    if (list_names(h->list_fd, ret) < 0) {
        /* what was mounted there has been replaced: opened again next time */
        (void)close(h->list_fd);
        h->list_fd = -1;
        return false;
    }
    return true;
}

static uint64_t take_drivers(const struct hotplug *h)
{
    uint64_t all = 0;
    for (size_t i = 0; i < h->n; i++) {
        char name[BDF_SIZE + 8], driver[sizeof((struct nv_device *)0)->driver];
        (void)snprintf(name, sizeof name, "%s/driver", h->bdfs[i]);
        sysfs_link_name(h->list_fd, name, driver, sizeof driver); /* as the look reads it */
        all += hash(h->bdfs[i], driver);
    }
    return all;
}

void hotplug_look_begins(struct hotplug *h)
{
    h->have_names = take_names(h, &h->names);
}

static void add_function(struct hotplug *h, const char *bdf, const char *driver)
{
    memcpy(h->bdfs[h->n++], bdf, BDF_SIZE);
    h->drivers += hash(bdf, driver);
}

void hotplug_look_saw(struct hotplug *h, const struct observed *observed)
{
    size_t n = 0;
    for (size_t i = 0; i < observed->n; i++)
        n += 1 + observed->devices[i].dev.n_companions;
    h->bdfs = xrealloc(h->bdfs, n + 1, sizeof *h->bdfs);
    h->n = 0;
    h->drivers = 0;
    h->have_drivers = true;
    for (size_t i = 0; i < observed->n; i++) {
        const struct nv_device *dev = &observed->devices[i].dev;
        add_function(h, dev->bdf, dev->driver);
        for (size_t k = 0; k < dev->n_companions; k++)
            add_function(h, dev->companions[k].bdf, dev->companions[k].driver);
    }
}

void hotplug_poll(struct hotplug *h)
{
    uint64_t names;
    if (!take_names(h, &names)) {
        if (h->have_names) /* the bus was there a moment ago */
            h->on_change(h->arg);
        h->have_names = false;
        return;
    }
    /* without inotify nobody tells of nodes below /dev/vfio: every poll looks at everything */
    bool changed = h->inotify_fd < 0 || (h->have_names && names != h->names);
    h->have_names = true;
    h->names = names;
    if (!changed && h->have_drivers && ++h->polls % DRIVERS_EVERY == 0) {
        uint64_t drivers = take_drivers(h);
        changed = drivers != h->drivers;
        h->drivers = drivers;
    }
    if (changed)
        h->on_change(h->arg);
}
