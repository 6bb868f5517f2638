#include "node-agent/reload.h"

#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "base/auto.h"

#define QUIET_MS 100

struct reload {
    struct loop *loop;
    char *name; /* of the file in its directory */
    int fd;
    struct loop_fd *source;
    struct loop_timer *timer;
    void (*on_change)(void *arg);
    void *arg;
};

static void on_quiet(void *arg)
{
    struct reload *reload = arg;
    reload->timer = NULL;
    reload->on_change(reload->arg);
}

static void on_inotify(void *arg, int fd, uint32_t events)
{
    struct reload *reload = arg;
    char buf[4096] __attribute__((aligned(8)));
    bool ours = false;
    ssize_t n;
    (void)events;
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(buf + at);
            ours = ours || (event->mask & IN_Q_OVERFLOW) ||
                   (event->len > 0 &&
                    (strcmp(event->name, reload->name) == 0 || strcmp(event->name, "..data") == 0));
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    if (!ours)
        return;
    loop_cancel(reload->timer);
    reload->timer = loop_add_timer(reload->loop, QUIET_MS, on_quiet, reload);
}

struct reload *reload_new(struct loop *loop, const char *path, void (*on_change)(void *arg),
                          void *arg, struct err *err)
{
    AUTO_FREE char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    const char *name = slash ? slash + 1 : path;
    AUTO_FREE char *file = xstrdup(name);
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, slash ? dir : ".",
                                    IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE |
                                        IN_MOVED_FROM) < 0) {
        (void)err_errno(err, "watch the directory of %s for changes", path);
        return NULL;
    }
    struct reload *reload = xcalloc(1, sizeof *reload);
    *reload = (struct reload){.loop = loop, .on_change = on_change, .arg = arg};
    reload->name = TAKE(file);
    reload->fd = TAKE_FD(fd);
    reload->source = loop_add_fd(loop, reload->fd, EPOLLIN, on_inotify, reload);
    return reload;
}

void reload_free(struct reload *reload)
{
    if (!reload)
        return;
    loop_cancel(reload->timer);
    loop_remove_fd(reload->source);
    (void)close(reload->fd);
    free(reload->name);
    free(reload);
}
