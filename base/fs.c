#include "base/fs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"

int fs_read_fd(int fd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *err)
{
    size_t room = 4096, len = 0;
    AUTO_FREE char *buf = xmalloc(room + 1);
    for (;;) {
        ssize_t n = read(fd, buf + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "read %s", name);
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max)
            return err_set(err, EFBIG, "%s is larger than %zu bytes", name, max);
        if (len == room) {
            room *= 2;
            buf = xrealloc(buf, room + 1, 1);
        }
    }
    buf[len] = '\0';
    if (ret_len)
        *ret_len = len;
    *ret = TAKE(buf);
    return 0;
}

int fs_read(const struct host *host, const char *path, size_t max, char **ret, size_t *ret_len,
            struct err *err)
{
    AUTO_CLOSE int fd = host_openat(host, path, O_RDONLY | O_NONBLOCK, err);
    if (fd < 0)
        return fd;
    return fs_read_fd(fd, path, max, ret, ret_len, err);
}

int fs_read_attr(int dir_fd, const char *name, char *buf, size_t room, struct err *err)
{
    AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s", name);
    ssize_t n = read(fd, buf, room);
    if (n < 0)
        return err_errno(err, "read %s", name);
    if ((size_t)n == room)
        return err_set(err, EFBIG, "%s is longer than %zu characters", name, room - 1);
    if (memchr(buf, '\0', (size_t)n))
        return err_set(err, EBADMSG, "%s contains a zero byte", name);
    while (n > 0 && isspace((unsigned char)buf[n - 1]))
        n--;
    buf[n] = '\0';
    return (int)n;
}

int fs_write_attr(int dir_fd, const char *name, const char *text, struct err *err)
{
    AUTO_CLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s for writing", name);
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    if (n < 0)
        return err_errno(err, "write '%.32s' to %s", text, name);
    if ((size_t)n != len)
        return err_set(err, EIO, "write to %s was cut after %zd of %zu bytes", name, n, len);
    return 0;
}

int fs_read_link(int dir_fd, const char *name, char *buf, size_t room, struct err *err)
{
    ssize_t n = readlinkat(dir_fd, name, buf, room);
    if (n < 0)
        return err_errno(err, "read link %s", name);
    if ((size_t)n >= room)
        return err_set(err, ENAMETOOLONG, "link %s points to a name longer than %zu", name, room);
    buf[n] = '\0';
    return (int)n;
}

int fs_mkdirs(const struct host *host, const char *path, struct err *err)
{
    AUTO_FREE char *part = xstrdup(path);
    for (char *p = part;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (*part != '\0') {
            AUTO_FREE char *parent = xstrdup(part);
            char *slash = strrchr(parent, '/');
            const char *name = slash ? slash + 1 : parent;
            AUTO_CLOSE int dir = -1;
            if (slash)
                *slash = '\0';
            dir = host_open_dir(host, slash ? parent : "/", err);
            if (dir < 0)
                return dir;
            if (*name && mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
                return err_errno(err, "create directory %s", part);
        }
        *p = end;
        if (end == '\0')
            return 0;
    }
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_replace(const struct host *host, const char *dir, const char *name, const void *data,
               size_t len, mode_t mode, bool durable, struct err *err)
{
    /* not O_PATH: the directory itself is fsynced */
    AUTO_CLOSE int dir_fd = host_openat(host, dir, O_RDONLY | O_DIRECTORY, err);
    if (dir_fd < 0)
        return dir_fd;
    char tmp[NAME_MAX + 1];
    if (snprintf(tmp, sizeof tmp, ".%s.%d.tmp", name, (int)getpid()) >= (int)sizeof tmp)
        return err_set(err, ENAMETOOLONG, "file name %s is too long", name);
    AUTO_CLOSE int fd =
        openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "create %s/%s", dir, tmp);
    if (write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || (durable && fsync(fd) < 0) ||
        renameat(dir_fd, tmp, dir_fd, name) < 0) {
        int r = err_errno(err, "write %s/%s", dir, name);
        (void)unlinkat(dir_fd, tmp, 0);
        return r;
    }
    if (durable && fsync(dir_fd) < 0)
        return err_errno(err, "sync directory %s", dir);
    return 0;
}

int fs_remove(const struct host *host, const char *dir, const char *name, struct err *err)
{
    int dir_fd = host_open_dir(host, dir, err);
    if (dir_fd == -ENOENT)
        return 0;
    if (dir_fd < 0)
        return dir_fd;
    int r = unlinkat(dir_fd, name, 0);
    int code = errno;
    (void)close(dir_fd);
    if (r == 0)
        return 1;
    if (code == ENOENT)
        return 0;
    errno = code;
    return err_errno(err, "remove %s/%s", dir, name);
}

static bool is_stale(const char *name, const char *start, const char *end)
{
    size_t len = strlen(name), start_len = strlen(start), end_len = strlen(end);
    if (name[0] != '.' || strncmp(name + 1, start, start_len) != 0 || len < end_len ||
        strcmp(name + len - end_len, end) != 0)
        return false;
    size_t digits = len - end_len;
    while (digits > 0 && isdigit((unsigned char)name[digits - 1]))
        digits--;
    if (digits < 3 || digits < start_len + 2 || name[digits - 1] != '.')
        return false;
    char *rest;
    long pid = strtol(name + digits, &rest, 10);
    return strcmp(rest, end) == 0 && pid > 0 && pid <= INT_MAX &&
           (pid == (long)getpid() || (kill((pid_t)pid, 0) < 0 && errno == ESRCH));
}

void fs_remove_stale(const struct host *host, const char *dir, const char *start, const char *end)
{
    struct err ignored = ERR_INIT;
    int fd = host_openat(host, dir, O_RDONLY | O_DIRECTORY, &ignored);
    AUTO_CLOSEDIR DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (!stream) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(stream)))
        if (is_stale(entry->d_name, start, end))
            (void)unlinkat(dirfd(stream), entry->d_name, 0);
}
