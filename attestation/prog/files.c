#include "attestation/prog/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"

void file_done(struct file *file)
{
    free(file->data);
    *file = (struct file){0};
}

int file_read(const char *path, size_t max, struct file *ret, struct err *err)
{
    size_t len;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    int r = fs_read_fd(fd, path, max, &ret->data, &len, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/');
    ret->text = (struct att_text){ret->data, len, slash ? slash + 1 : path};
    return 0;
}

int file_replace(const char *path, const char *data, size_t len, struct err *err)
{
    if (!path || strcmp(path, "-") == 0) {
        if (fwrite(data, 1, len, stdout) != len || fflush(stdout) != 0)
            return err_errno(err, "write to standard output");
        return 0;
    }
    AUTO_FREE char *copy = xstrdup(path);
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : path;
    if (slash)
        *slash = 0;
    AUTO_FREE char *dir = realpath(slash ? (*copy ? copy : "/") : ".", NULL);
    if (!dir)
        return err_errno(err, "directory of %s", path);
    struct host host;
    int r = host_open(&host, "/", err);
    if (r < 0)
        return r;
    r = fs_replace(&host, dir, name, data, len, 0600, false, err);
    host_close(&host);
    return r;
}
