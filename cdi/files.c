#include "cdi/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "cdi/cdi.h"

struct name {
    char *text;
    bool is_dir;
};

static int by_name(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    return strcmp(x->text, y->text);
}

static bool is_spec_name(const char *name)
{
    size_t len = strlen(name);
    return len > 5 &&
           (strcmp(name + len - 5, ".json") == 0 || strcmp(name + len - 5, ".yaml") == 0);
}

static bool is_directory(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

int cdi_list_files(const struct host *host, const char *dir, struct cdi_names *ret, struct err *err)
{
    int fd = host_openat(host, dir, O_RDONLY | O_DIRECTORY, err);
    if (fd < 0)
        return fd;
    AUTO_CLOSEDIR DIR *stream = fdopendir(fd);
    if (!stream) {
        (void)close(fd);
        return err_errno(err, "open directory %s", dir);
    }
    struct name found[CDI_MAX_FILES];
    size_t n = 0;
    bool cut = false;
    struct dirent *entry;
    while ((entry = readdir(stream))) {
        bool is_dir = is_directory(stream, entry);
        if (entry->d_name[0] == '.' && (is_dir || !is_spec_name(entry->d_name)))
            continue;
        if (!is_dir && !is_spec_name(entry->d_name))
            continue;
        cut = n == CDI_MAX_FILES;
        if (cut)
            break;
        found[n++] = (struct name){.text = xstrdup(entry->d_name), .is_dir = is_dir};
    }
    qsort(found, n, sizeof found[0], by_name);
    *ret = (struct cdi_names){.n = n,
                              .names = xcalloc(n + 1, sizeof *ret->names),
                              .is_dir = xcalloc(n + 1, sizeof *ret->is_dir),
                              .cut = cut};
    for (size_t i = 0; i < n; i++) {
        ret->names[i] = found[i].text;
        ret->is_dir[i] = found[i].is_dir;
    }
    return 0;
}

void cdi_names_free(struct cdi_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->names[i]);
    free(names->names);
    free(names->is_dir);
    *names = (struct cdi_names){0};
}
