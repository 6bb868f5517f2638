#include "node-agent/gpu/sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"

int sysfs_hex(int dir_fd, const char *name, uint32_t max, uint32_t *ret, struct err *err)
{
    char text[64];
    uint64_t v;
    int n = fs_read_attr(dir_fd, name, text, sizeof text, err);
    if (n < 0)
        return n;
    if (strncmp(text, "0x", 2) != 0 || parse_u64(text, max, &v, err) < 0)
        return err_set(err, EBADMSG, "%s reads '%.40s', not a hexadecimal number", name, text);
    *ret = (uint32_t)v;
    return 0;
}

int sysfs_int(int dir_fd, const char *name, int *ret, struct err *err)
{
    char text[64];
    int n = fs_read_attr(dir_fd, name, text, sizeof text, err);
    if (n < 0)
        return n;
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < INT_MIN || v > INT_MAX)
        return err_set(err, EBADMSG, "%s reads '%.40s', not a number", name, text);
    *ret = (int)v;
    return 0;
}

void sysfs_copy_name(const char *from, char *ret, size_t room)
{
    size_t n = strlen(from);
    *ret = '\0';
    if (n == 0 || n >= room || strcmp(from, ".") == 0 || strcmp(from, "..") == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        if (c >= 0x7f || !isgraph(c) || c == '/')
            return;
    }
    memcpy(ret, from, n + 1);
}

void sysfs_word(int dir_fd, const char *name, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    char text[256];
    *ret = '\0';
    if (fs_read_attr(dir_fd, name, text, sizeof text, &ignored) > 0)
        sysfs_copy_name(text, ret, room);
}

void sysfs_link_name(int dir_fd, const char *name, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    char target[PATH_MAX];
    *ret = '\0';
    if (fs_read_link(dir_fd, name, target, sizeof target, &ignored) < 0)
        return;
    const char *slash = strrchr(target, '/');
    sysfs_copy_name(slash ? slash + 1 : target, ret, room);
}

int sysfs_number(const char *text, int max)
{
    int v = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return -1;
        v = v * 10 + (*text - '0');
        if (v >= max)
            return -1;
    }
    return v;
}

bool sysfs_exists(const struct host *host, const char *path)
{
    struct err ignored = ERR_INIT;
    AUTO_CLOSE int fd = host_openat(host, path, O_PATH, &ignored);
    return fd >= 0;
}

bool sysfs_is_of_kernel(const struct host *host)
{
    struct err ignored = ERR_INIT;
    struct statfs what;
    AUTO_CLOSE int fd = host_open_dir(host, "/sys", &ignored);
    return fd >= 0 && fstatfs(fd, &what) == 0 && what.f_type == SYSFS_MAGIC;
}
