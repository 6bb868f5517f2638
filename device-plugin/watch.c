#include "device-plugin/watch.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/auto.h"

struct dp_watch {
    struct loop *loop;
    const struct host *host;
    const char *dir;
    void (*cb)(void *arg, const char *name);
    void *arg;
    int fd; /* -1: not watching */
    struct loop_fd *source;
};

static void stop(struct dp_watch *w)
{
    if (w->fd < 0)
        return;
    loop_remove_fd(TAKE(w->source));
    (void)close(TAKE_FD(w->fd));
}

static void changed(void *arg, int fd, uint32_t events)
{
    struct dp_watch *w = arg;
    _Alignas(struct inotify_event) char room[4096];
    (void)events;
    ssize_t n = read(fd, room, sizeof room);
    bool gone = false;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const void *)(room + at);
        at += (ssize_t)(sizeof *event + event->len);
        if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
            gone = true;
        else
            w->cb(w->arg, event->mask & IN_Q_OVERFLOW || event->len == 0 ? NULL : event->name);
    }
    if (gone) {
        stop(w);
        w->cb(w->arg, NULL);
    }
}

bool dp_watch_try(struct dp_watch *watch)
{
    if (watch->fd >= 0)
        return true;
    struct err err;
    AUTO_CLOSE int dir_fd = host_open_dir(watch->host, watch->dir, &err);
    if (dir_fd < 0)
        return false;
    AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char path[40]; /* the directory itself, inside the host root */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", dir_fd);
    if (fd < 0 || inotify_add_watch(fd, path,
                                    IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM |
                                        IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0)
        return false;
    watch->source = loop_add_fd(watch->loop, fd, EPOLLIN, changed, watch);
    watch->fd = TAKE_FD(fd);
    return true;
}

struct dp_watch *dp_watch_new(struct loop *loop, const struct host *host, const char *dir,
                              void (*cb)(void *arg, const char *name), void *arg)
{
    struct dp_watch *w = xcalloc(1, sizeof *w);
    *w = (struct dp_watch){.loop = loop, .host = host, .dir = dir, .cb = cb, .arg = arg, .fd = -1};
    return w;
}

void dp_watch_free(struct dp_watch *watch)
{
    if (!watch)
        return;
    stop(watch);
    free(watch);
}
