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

#define UEVENT_MAX 8192
#define DRIVERS_EVERY                                                                              \
    5 /* polls: names are looked at in each, drivers (a link per device) in every fourth */
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
    bool have_fingerprint;
    uint64_t fingerprint; /* of names and drivers */
    uint64_t names;
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
static bool concerns_pci(const char *text, size_t len)
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
            pci =
                pci || concerns_pci(text, (size_t)n); /* others than the kernel are not believed */
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

struct hotplug *hotplug_new(struct loop *loop, const struct host *host,
                            void (*on_change)(void *arg), void *arg)
{
    struct hotplug *h = xcalloc(1, sizeof *h);
    *h = (struct hotplug){.loop = loop, .host = host, .on_change = on_change, .arg = arg};
    h->uevent_fd = h->list_fd = -1;
    if (strcmp(host->root, "/") == 0)
        open_uevents(h); /* another root has other devices than this kernel */
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
    free(h);
}

/* FNV-1a (Fowler, Noll, Vo): order of a directory is not promised, so the hashes of its entries are added. */
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

static uint64_t driver_of(int list_fd, const char *bdf)
{
    char name[300], link[512];
    (void)snprintf(name, sizeof name, "%s/driver", bdf);
    ssize_t n = readlinkat(list_fd, name, link, sizeof link - 1);
    link[n > 0 ? n : 0] = '\0';
    return hash(bdf, link);
}

static int list_all(int list_fd, uint64_t *ret_names, uint64_t *ret_drivers)
{
    /* not readdir(): opening a stream asks for more than the listing itself costs */
    char buf[16384] __attribute__((aligned(8)));
    ssize_t n = lseek(list_fd, 0, SEEK_SET);
    while (n >= 0 && (n = getdents64(list_fd, buf, sizeof buf)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(buf + at);
            at += e->d_reclen;
            if (*e->d_name == '.')
                continue;
            *ret_names += hash(e->d_name, "");
            if (ret_drivers)
                *ret_drivers += driver_of(list_fd, e->d_name);
        }
    }
    return n < 0 ? -errno : 0;
}

/* Return: false when the devices cannot be listed. @ret_drivers may be NULL. */
static bool take_fingerprint(struct hotplug *h, uint64_t *ret_names, uint64_t *ret_drivers)
{
    struct err ignored = ERR_INIT;
    uint64_t names = 0, drivers = 0;
    if (h->list_fd < 0)
        h->list_fd = host_openat(h->host, "/sys/bus/pci/devices", O_RDONLY | O_DIRECTORY, &ignored);
    if (h->list_fd < 0)
        return false;
    if (list_all(h->list_fd, &names, ret_drivers ? &drivers : NULL) < 0) {
        (void)close(
            h->list_fd); /* what was mounted there has been replaced: opened again next time */
        h->list_fd = -1;
        return false;
    }
    *ret_names = names;
    if (ret_drivers)
        *ret_drivers = drivers;
    return true;
}

void hotplug_seen(struct hotplug *h)
{
    h->have_fingerprint = take_fingerprint(h, &h->names, &h->fingerprint);
}

void hotplug_poll(struct hotplug *h)
{
    uint64_t names, drivers;
    if (!take_fingerprint(h, &names, NULL))
        return;
    if (h->have_fingerprint && names == h->names && ++h->polls % DRIVERS_EVERY != 0)
        return;
    if (!take_fingerprint(h, &names, &drivers))
        return;
    bool changed = h->have_fingerprint && drivers != h->fingerprint;
    h->have_fingerprint = true;
    h->fingerprint = drivers;
    h->names = names;
    if (changed)
        h->on_change(h->arg);
}
