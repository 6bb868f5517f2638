#include "node-agent/gpu/lock.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"

/* The holder's pid as the file says it; "" when it says nothing sensible. */
static void read_holder(int fd, char *ret, size_t room)
{
    ssize_t n = pread(fd, ret, room - 1, 0);
    size_t len = 0;
    while (n > 0 && len < (size_t)n && isdigit((unsigned char)ret[len]))
        len++;
    ret[len] = '\0';
}

int lock_take(const struct host *host, const char *dir, const char *name, struct err *err)
{
    char pid[16];
    int r = fs_mkdirs(host, dir, err);
    if (r < 0)
        return r;
    AUTO_CLOSE int dir_fd = host_open_dir(host, dir, err);
    if (dir_fd < 0)
        return dir_fd;
    AUTO_CLOSE int fd =
        openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return err_errno(err, "open lock %s/%s", dir, name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return err_errno(err, "lock %s/%s", dir, name);
        read_holder(fd, pid, sizeof pid);
        return err_set(err, EBUSY, "another ccnode-device works on it (%s%s, lock %s/%s)",
                       *pid ? "pid " : "unknown pid", pid, dir, name);
    }
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        return err_errno(err, "write lock %s/%s", dir, name);
    return TAKE_FD(fd);
}

int lock_holder(const struct host *host, const char *dir, const char *name)
{
    struct err ignored = ERR_INIT;
    char pid[10]; /* of what fits into an int whatever it says */
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    AUTO_CLOSE int fd = host_openat(host, path, O_RDONLY, &ignored);
    *pid = '\0';
    if (fd >= 0)
        read_holder(fd, pid, sizeof pid);
    return (int)strtol(pid, NULL, 10);
}

bool lock_is_held(const struct host *host, const char *dir, const char *name)
{
    struct err ignored = ERR_INIT;
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    AUTO_CLOSE int fd = host_openat(host, path, O_RDONLY, &ignored);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}
