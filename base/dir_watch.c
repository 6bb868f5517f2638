#include "base/dir_watch.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/auto.h"

struct dir_watch {
    struct loop *loop;
    const struct host *host;
    void (*on_change)(void *arg);
    void *arg;
    bool (*is_noise)(const char *name);
    int fd; /* -1 = not had yet */
    struct loop_fd *source;
};

/* Events about the directory itself, and lost ones (IN_Q_OVERFLOW), have no name. */
static bool is_news(const struct dir_watch *watch, const char *buf, size_t n)
{
    for (size_t at = 0; at + sizeof(struct inotify_event) <= n;) {
        struct inotify_event event;
        memcpy(&event, buf + at, sizeof event);
        at += sizeof event;
        if (event.len > n - at || event.len == 0 || !watch->is_noise || !watch->is_noise(buf + at))
            return true;
        at += event.len;
    }
    return false;
}

static void on_inotify(void *arg, int fd, uint32_t events)
{
    struct dir_watch *watch = arg;
    char buf[4096] __attribute__((aligned(8)));
    bool news = false;
    (void)events;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
        news = is_news(watch, buf, (size_t)n) || news;
    if (news)
        watch->on_change(watch->arg);
}

void dir_watch_ignore(struct dir_watch *watch, bool (*is_noise)(const char *name))
{
    watch->is_noise = is_noise;
}

struct dir_watch *dir_watch_new(struct loop *loop, const struct host *host,
                                void (*on_change)(void *arg), void *arg)
{
    struct dir_watch *watch = xcalloc(1, sizeof *watch);
    *watch = (struct dir_watch){
        .loop = loop, .host = host, .on_change = on_change, .arg = arg, .fd = -1};
    return watch;
}

void dir_watch_free(struct dir_watch *watch)
{
    if (!watch)
        return;
    loop_remove_fd(watch->source);
    if (watch->fd >= 0)
        (void)close(watch->fd);
    free(watch);
}

bool dir_watch_add(struct dir_watch *watch, const char *dir)
{
    struct err ignored = ERR_INIT;
    AUTO_CLOSE int fd = host_open_dir(watch->host, dir, &ignored);
    if (fd < 0)
        return false;
    if (watch->fd < 0) {
        watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (watch->fd < 0)
            return false;
        watch->source = loop_add_fd(watch->loop, watch->fd, EPOLLIN, on_inotify, watch);
    }
    char path[40]; /* the directory itself, inside the host root */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return inotify_add_watch(watch->fd, path,
                             IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE |
                                 IN_MODIFY | IN_ATTRIB | IN_ONLYDIR) >= 0;
}
