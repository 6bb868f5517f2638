#include "node-agent/reload.h"

#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"

#define QUIET_MS 100
#define POLL_MS 10000 /* without inotify */

struct stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

struct reload {
    struct loop *loop;
    char *path;
    const char *name; /* of the file in its directory; in path */
    struct stamp stamp;
    int fd; /* -1: polled */
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

/* Who the file is and when it was written last; follows the links of a ConfigMap volume. */
static struct stamp look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return (struct stamp){0};
    return (struct stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static void on_poll(void *arg)
{
    struct reload *reload = arg;
    struct stamp now = look_at(reload->path), old = reload->stamp;
    reload->stamp = now;
    reload->timer = loop_add_timer(reload->loop, POLL_MS, on_poll, reload);
    if (now.dev != old.dev || now.ino != old.ino || now.size != old.size ||
        now.mtime.tv_sec != old.mtime.tv_sec || now.mtime.tv_nsec != old.mtime.tv_nsec)
        reload->on_change(reload->arg);
}

/* Return: a descriptor that tells what happens in the directory of @path, or -1 with @err. */
static int watch_directory(const char *path, struct err *err)
{
    AUTO_FREE char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 ||
        inotify_add_watch(fd, slash ? dir : ".",
                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM) < 0)
        return err_errno(err, "watch the directory of %s for changes", path);
    return TAKE_FD(fd);
}

struct reload *reload_new(struct loop *loop, const char *path, void (*on_change)(void *arg),
                          void *arg)
{
    struct err err = ERR_INIT;
    struct reload *reload = xcalloc(1, sizeof *reload);
    *reload = (struct reload){.loop = loop, .on_change = on_change, .arg = arg};
    const char *slash = strrchr(path, '/');
    reload->path = xstrdup(path);
    reload->name = reload->path + (slash ? slash + 1 - path : 0);
    reload->stamp = look_at(path);
    reload->fd = watch_directory(path, &err);
    if (reload->fd >= 0) {
        reload->source = loop_add_fd(loop, reload->fd, EPOLLIN, on_inotify, reload);
        return reload;
    }
    /* on busy nodes other programs use up what one user may have (128 by default) */
    log_warning("changes of the configuration are noticed late, the file is looked at now and then",
                "error", err.msg, "cure", "raise the sysctl fs.inotify.max_user_instances", NULL);
    reload->timer = loop_add_timer(loop, POLL_MS, on_poll, reload);
    return reload;
}

void reload_free(struct reload *reload)
{
    if (!reload)
        return;
    loop_cancel(reload->timer);
    loop_remove_fd(reload->source);
    if (reload->fd >= 0)
        (void)close(reload->fd);
    free(reload->path);
    free(reload);
}
