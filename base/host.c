#include "base/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"

static int64_t monotonic_ms(void *arg)
{
    (void)arg;
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int host_open(struct host *host, const char *root, struct err *err)
{
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "host root %s", root);
    *host = (struct host){.root_fd = fd, .root = root, .now_ms = monotonic_ms};
    return 0;
}

void host_close(struct host *host)
{
    if (host->root_fd >= 0)
        (void)close(host->root_fd);
    host->root_fd = -1;
}

int64_t host_now_ms(const struct host *host)
{
    return host->now_ms(host->clock_arg);
}

int host_openat(const struct host *host, const char *path, int flags, struct err *err)
{
    const char *relative = path;
    while (*relative == '/')
        relative++;
    struct open_how how = {
        .flags = (uint64_t)flags | O_CLOEXEC,
        .mode = flags & O_CREAT ? 0644 : 0,
        .resolve = RESOLVE_IN_ROOT,
    };
    long fd;
    do /* EAGAIN: a rename raced with the resolution, openat2(2) says to try again */
        fd = syscall(SYS_openat2, host->root_fd, *relative ? relative : ".", &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    if (fd < 0)
        return err_errno(err, "open %s", path);
    return (int)fd;
}

int host_open_dir(const struct host *host, const char *path, struct err *err)
{
    return host_openat(host, path, O_PATH | O_DIRECTORY, err);
}

char *host_path(const struct host *host, const char *path)
{
    while (*path == '/')
        path++;
    size_t n = strlen(host->root);
    const char *slash = n > 0 && host->root[n - 1] == '/' ? "" : "/";
    return xasprintf("%s%s%s", host->root, slash, path);
}
