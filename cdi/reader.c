/* Our files as they are on disk, read again only when they have changed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"
#include "cdi/ours.h"
#include "cdi/report.h"

struct known_file {
    char *path;
    struct stat st; /* all zero: there is none */
    struct cdi_seen_list seen;
    char cause[256]; /* "" = sound */
};

struct cdi_reader {
    const struct host *host;
    size_t n;
    struct known_file *files;
};

struct cdi_reader *cdi_reader_new(const struct host *host)
{
    struct cdi_reader *reader = xcalloc(1, sizeof *reader);
    reader->host = host;
    return reader;
}

void cdi_reader_free(struct cdi_reader *reader)
{
    for (size_t i = 0; reader && i < reader->n; i++) {
        free(reader->files[i].path);
        cdi_seen_free(&reader->files[i].seen);
    }
    if (reader)
        free(reader->files);
    free(reader);
}

/* As it is now; every way of not being there is the same. */
static void look(const struct cdi_reader *reader, const char *path, struct stat *ret)
{
    struct err ignored = ERR_INIT;
    AUTO_CLOSE int fd = host_openat(reader->host, path, O_PATH | O_NOFOLLOW, &ignored);
    if (fd < 0 || fstat(fd, ret) < 0)
        *ret = (struct stat){0};
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* st first: what changes while it is read is read again the next time */
static void read_file(const struct cdi_reader *reader, struct known_file *file)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    struct cdi_report report = {0};
    cdi_seen_free(&file->seen);
    *file->cause = '\0';
    look(reader, file->path, &file->st);
    if (fs_read(reader->host, file->path, CDI_MAX_FILE, &text, &len, &err) < 0) {
        (void)snprintf(file->cause, sizeof file->cause, "%.250s", err.msg);
        return;
    }
    cdi_scan(file->path, text, len, &report, &file->seen);
    for (size_t i = 0; i < report.n && !*file->cause; i++)
        if (report.findings[i].severity == CDI_ERROR)
            (void)snprintf(file->cause, sizeof file->cause, "line %u: %.230s",
                           report.findings[i].line, report.findings[i].cause);
    if (!*file->cause && !cdi_text_is_ours(text, len))
        (void)snprintf(file->cause, sizeof file->cause, "somebody else has written it");
    cdi_report_free(&report);
}

static const struct known_file *have_file(struct cdi_reader *reader, const char *path)
{
    for (size_t i = 0; i < reader->n; i++)
        if (strcmp(reader->files[i].path, path) == 0)
            return &reader->files[i];
    reader->files = xrealloc(reader->files, reader->n + 1, sizeof *reader->files);
    struct known_file *file = &reader->files[reader->n++];
    *file = (struct known_file){.path = xstrdup(path)};
    read_file(reader, file);
    return file;
}

int cdi_reader_check(struct cdi_reader *reader, const char *dir, const char *class, const char *id,
                     const char *node, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/" CDI_VENDOR "-%s.yaml", dir, class);
    AUTO_FREE char *name = xasprintf(CDI_VENDOR "/%s=%s", class, id);
    const struct known_file *file = have_file(reader, path);
    if (*file->cause)
        return err_set(err, EBADMSG, "%s does not resolve, %s: %s", name, path, file->cause);
    for (size_t i = 0; i < file->seen.n; i++) {
        const struct cdi_seen *seen = &file->seen.items[i];
        if (strcmp(seen->name, name) != 0)
            continue;
        if (strcmp(seen->node, node) == 0)
            return 0;
        return err_set(err, EBADMSG, "%s is %s in %s, not %s", name, seen->node, path, node);
    }
    return err_set(err, ENOENT, "%s does not resolve, it is not in %s", name, path);
}

bool cdi_reader_update(struct cdi_reader *reader)
{
    bool changed = false;
    for (size_t i = 0; i < reader->n; i++) {
        struct known_file *file = &reader->files[i];
        struct stat now;
        look(reader, file->path, &now);
        if (is_same(&now, &file->st))
            continue;
        changed = true;
        read_file(reader, file);
    }
    return changed;
}
