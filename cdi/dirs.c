/* Every CDI file of the host: what only shows when all are looked at. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/files.h"
#include "cdi/ours.h"
#include "cdi/report.h"

struct look {
    const struct host *host;
    struct cdi_report *report;
    struct cdi_seen_list seen;
    size_t n_files;
    char (*files)[256]; /* paths, by cdi_seen.file */
    bool *ours;
};

static unsigned add_file(struct look *look, const char *path, bool ours)
{
    look->files = xrealloc(look->files, look->n_files + 1, sizeof *look->files);
    look->ours = xrealloc(look->ours, look->n_files + 1, sizeof *look->ours);
    (void)snprintf(look->files[look->n_files], sizeof look->files[0], "%s", path);
    look->ours[look->n_files] = ours;
    return (unsigned)look->n_files++;
}

static void look_at_file(struct look *look, const char *path, unsigned dir)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    if (fs_read(look->host, path, CDI_MAX_FILE, &text, &len, &err) < 0) {
        cdi_report_add(look->report, CDI_ERROR, false, path, 0,
                       "make it readable, or remove it: a file that cannot be read stops every "
                       "sandbox of Kata",
                       "%s", err.msg);
        return;
    }
    size_t before = look->seen.n;
    cdi_scan(path, text, len, look->report, &look->seen);
    unsigned file = add_file(look, path, cdi_text_is_ours(text, len));
    for (size_t i = before; i < look->seen.n; i++) {
        look->seen.items[i].file = file;
        look->seen.items[i].dir = dir;
    }
}

static void look_at_dir(struct look *look, const char *dir, unsigned index)
{
    struct cdi_names names = {0};
    struct err err = ERR_INIT;
    int r = cdi_list_files(look->host, dir, &names, &err);
    if (r == -ENOENT)
        cdi_report_add(look->report, CDI_NOTE, false, dir, 0,
                       "create it: some container runtimes report a missing directory as an error",
                       "the directory does not exist");
    else if (r < 0)
        cdi_report_add(look->report, CDI_ERROR, false, dir, 0,
                       "look at the directory and its permissions", "%s", err.msg);
    for (size_t i = 0; r >= 0 && i < names.n; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", dir, names.names[i]);
        if (names.is_dir[i])
            cdi_report_add(look->report, CDI_NOTE, false, path, 0,
                           "move the directory away unless all of them are meant",
                           "a directory: Kata's Rust shim reads specifications inside it, the "
                           "others do not");
        else
            look_at_file(look, path, index);
    }
    if (r >= 0 && names.cut)
        cdi_report_add(look->report, CDI_ERROR, false, dir, 0, "clean the directory up",
                       "more than %d files; the rest was not looked at", CDI_MAX_FILES);
    cdi_names_free(&names);
}

static bool is_same_dir(const struct host *host, const char *a, const char *b)
{
    struct err err = ERR_INIT;
    if (strcmp(a, b) == 0)
        return true;
    AUTO_CLOSE int x = host_open_dir(host, a, &err);
    AUTO_CLOSE int y = host_open_dir(host, b, &err);
    struct stat s, t;
    return x >= 0 && y >= 0 && fstat(x, &s) == 0 && fstat(y, &t) == 0 && s.st_dev == t.st_dev &&
           s.st_ino == t.st_ino;
}

/* The same device twice: in one directory nobody gets it, in two the later directory wins in most consumers. */
static void find_conflicts(struct look *look)
{
    cdi_seen_sort(&look->seen);
    for (size_t i = 1; i < look->seen.n; i++) {
        const struct cdi_seen *a = &look->seen.items[i - 1], *b = &look->seen.items[i];
        if (strcmp(a->name, b->name) != 0 || a->file == b->file)
            continue;
        /* told at the file that is not ours, the one to be removed */
        const struct cdi_seen *at = look->ours[b->file] ? a : b, *other = at == a ? b : a;
        cdi_report_add(look->report, CDI_ERROR, look->ours[at->file], look->files[at->file],
                       at->line,
                       "remove one of the two files, most likely the leftover of an older tool",
                       "device \"%s\" is also in %s line %u: %s", at->name,
                       look->files[other->file], other->line,
                       a->dir == b->dir ? "consumers refuse both, and Kata then every GPU sandbox"
                                        : "which of the two counts differs between Kata's shims");
    }
}

static void find_missing_nodes(struct look *look)
{
    for (size_t i = 0; i < look->seen.n; i++) {
        const struct cdi_seen *seen = &look->seen.items[i];
        if (seen->node[0] != '/')
            continue;
        struct err err = ERR_INIT;
        AUTO_CLOSE int fd = host_openat(look->host, seen->node, O_PATH | O_NOFOLLOW, &err);
        if (fd != -ENOENT && fd != -ENOTDIR)
            continue;
        bool ours = look->ours[seen->file];
        cdi_report_add(look->report, ours ? CDI_ERROR : CDI_WARNING, ours, look->files[seen->file],
                       seen->line,
                       ours ? "run \"ccnode cdi write\", or start the agent, which does it"
                            : "let the tool that owns the file write it anew, or remove it",
                       "device \"%s\" needs %s, which does not exist", seen->name, seen->node);
    }
}

int cdi_check_dirs(const struct host *host, const char *const *dirs, size_t n_dirs,
                   struct cdi_report *report, struct err *err)
{
    if (n_dirs == 0)
        return err_set(err, EINVAL, "no CDI directory to look at");
    struct look look = {.host = host, .report = report};
    for (size_t i = 0; i < n_dirs; i++) {
        bool again = false;
        for (size_t k = 0; k < i && !again; k++)
            again = is_same_dir(host, dirs[i], dirs[k]);
        if (!again)
            look_at_dir(&look, dirs[i], (unsigned)i);
    }
    find_conflicts(&look);
    find_missing_nodes(&look);
    cdi_seen_free(&look.seen);
    free(look.files);
    free(look.ours);
    return 0;
}
