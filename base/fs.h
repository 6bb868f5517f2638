/* Small files: bounded reads, attribute writes, atomic replacement.
 *
 * All take a directory fd (from host_open_dir(), or host->root_fd through host_openat() for whole paths).
 * Nothing follows more than the caller gave; nothing grows beyond the bound the caller gave.
 */
#ifndef CCN_BASE_FS_H
#define CCN_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/host.h"

/**
 * fs_read() - the whole of a small file
 * @max: bytes; a longer file is refused with -EFBIG, not cut
 * @ret: text, terminated, the caller's; @ret_len may be NULL
 */
int fs_read(const struct host *host, const char *path, size_t max, char **ret, size_t *ret_len,
            struct err *err);
int fs_read_fd(int fd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *err);

/* fs_read_attr() - a sysfs attribute into buf, trailing white space cut. Return: length or -errno. */
int fs_read_attr(int dir_fd, const char *name, char *buf, size_t room, struct err *err);

/* fs_write_attr() - one write(2) of text to an existing file, as sysfs wants it. Short writes are -EIO. */
int fs_write_attr(int dir_fd, const char *name, const char *text, struct err *err);

/* fs_read_link() - target of a symbolic link. Return: length or -errno (-ENOENT when there is none). */
int fs_read_link(int dir_fd, const char *name, char *buf, size_t room, struct err *err);

/* fs_mkdirs() - directory and its parents below the host root, mode 0755. */
int fs_mkdirs(const struct host *host, const char *path, struct err *err);

/**
 * fs_replace() - atomic replacement: temporary file in the same directory, fsync, rename, fsync of directory
 * @durable: false leaves the two fsync away (tmpfs, or content that is rewritten at start)
 * The temporary name starts with a dot and ends in ".tmp", so readers of *.json or *.yaml never see it.
 */
int fs_replace(const struct host *host, const char *dir, const char *name, const void *data,
               size_t len, mode_t mode, bool durable, struct err *err);

/* fs_remove() - unlink; a missing file is success. Return: 1 removed, 0 was not there, -errno. */
int fs_remove(const struct host *host, const char *dir, const char *name, struct err *err);

/* fs_remove_stale() - what programs left in @dir that were killed: "." @start … "." pid @end, where no process has that pid.
 * fs_replace() makes such names with the end ".tmp". Those with our own pid count as stale: they are of a predecessor in a
 * container, where pids are the same again; so call it while this process writes nothing there. */
void fs_remove_stale(const struct host *host, const char *dir, const char *start, const char *end);

#endif
