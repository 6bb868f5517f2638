/* Our files in a CDI directory: written when they differ, removed when nothing stands behind them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"
#include "cdi/files.h"
#include "cdi/ours.h"
#include "cdi/report.h"

static struct cdi_spec *find_spec(const struct cdi_specs *specs, const char *file)
{
    for (size_t i = 0; i < specs->n; i++)
        if (strcmp(specs->specs[i].file, file) == 0)
            return &specs->specs[i];
    return NULL;
}

/* What the peers leave behind: a sound spec of our kind whose nodes are all VFIO nodes. */
static bool is_leftover(const char *text, size_t len, const char *class)
{
    struct cdi_report report = {0};
    struct cdi_seen_list seen = {0};
    char prefix[128];
    (void)snprintf(prefix, sizeof prefix, CDI_VENDOR "/%s=", class);
    cdi_scan("", text, len, &report, &seen);
    bool is = seen.n > 0;
    for (size_t i = 0; i < seen.n && is; i++)
        is = strncmp(seen.items[i].name, prefix, strlen(prefix)) == 0 &&
             strncmp(seen.items[i].node, "/dev/vfio/", 10) == 0;
    cdi_seen_free(&seen);
    cdi_report_free(&report);
    return is;
}

/* What is left of a file of ours that somebody has emptied or overwritten: nobody could read devices from it. */
static bool is_rubble(const char *text, size_t len)
{
    return !memmem(text, len, "cdiVersion", strlen("cdiVersion"));
}

struct sync {
    const struct host *host;
    const char *dir;
    struct cdi_specs *specs;
    bool durable;
    struct cdi_sync_result result;
    int r;
    struct err *err;
};

/* Keeps the first problem; the others are done all the same. */
static void problem(struct sync *sync, int r, const struct err *err)
{
    if (sync->r == 0) {
        sync->r = r;
        *sync->err = *err;
    }
}

static void block_kind(struct sync *sync, struct cdi_spec *spec, const char *file)
{
    int r = err_set(
        &spec->err, EEXIST,
        "%s/%s is not a file of ccnode and offers devices of kind %s/%s too; remove it if it is a "
        "leftover, or give the resource another name",
        sync->dir, file, CDI_VENDOR, spec->class);
    problem(sync, r, &spec->err);
}

/* A foreign file: in the way by its name, or by the kind of its devices? */
static void look_at_foreign(struct sync *sync, const char *file, const char *text, size_t len)
{
    struct cdi_spec *same_name = find_spec(sync->specs, file);
    if (same_name && (is_leftover(text, len, same_name->class) || is_rubble(text, len)))
        return;
    if (same_name) {
        block_kind(sync, same_name, file);
        return;
    }
    struct cdi_report report = {0};
    struct cdi_seen_list seen = {0};
    cdi_scan(file, text, len, &report, &seen);
    for (size_t i = 0; i < sync->specs->n && seen.n > 0; i++) {
        char prefix[128];
        (void)snprintf(prefix, sizeof prefix, CDI_VENDOR "/%s=", sync->specs->specs[i].class);
        if (strncmp(seen.items[0].name, prefix, strlen(prefix)) == 0)
            block_kind(sync, &sync->specs->specs[i], file);
    }
    cdi_seen_free(&seen);
    cdi_report_free(&report);
}

static void remove_file(struct sync *sync, const char *file)
{
    struct err err = ERR_INIT;
    int r = fs_remove(sync->host, sync->dir, file, &err);
    if (r < 0)
        problem(sync, r, &err);
    else
        sync->result.removed += (unsigned)r;
}

static void look_at_file(struct sync *sync, const char *file)
{
    AUTO_FREE char *path = xasprintf("%s/%s", sync->dir, file);
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    int r = fs_read(sync->host, path, CDI_MAX_FILE, &text, &len, &err);
    if (r < 0) {
        /* not ours: ours can be read. Only a name of ours is in the way */
        if (r != -ENOENT && find_spec(sync->specs, file))
            block_kind(sync, find_spec(sync->specs, file), file);
        return;
    }
    if (!cdi_text_is_ours(text, len))
        look_at_foreign(sync, file, text, len);
    else if (!find_spec(sync->specs, file))
        remove_file(sync, file);
}

/* Return: the file's text when there is one, else NULL; the caller's. */
static char *read_file(const struct sync *sync, const char *file, size_t *ret_len)
{
    AUTO_FREE char *path = xasprintf("%s/%s", sync->dir, file);
    char *text = NULL;
    struct err err = ERR_INIT;
    return fs_read(sync->host, path, CDI_MAX_FILE, &text, ret_len, &err) == 0 ? text : NULL;
}

static bool is_ours(const struct sync *sync, const char *file)
{
    size_t len = 0;
    AUTO_FREE char *text = read_file(sync, file, &len);
    return text && cdi_text_is_ours(text, len);
}

static bool is_unchanged(const struct sync *sync, const struct cdi_spec *spec)
{
    size_t len = 0;
    AUTO_FREE char *text = read_file(sync, spec->file, &len);
    return text && len == spec->len && memcmp(text, spec->text, len) == 0;
}

static void write_spec(struct sync *sync, size_t i)
{
    struct cdi_spec *spec = &sync->specs->specs[i];
    if (spec->err.code != 0) {
        /* with a file of ours beside the foreign one consumers would refuse both */
        if (is_ours(sync, spec->file))
            remove_file(sync, spec->file);
        return;
    }
    if (is_unchanged(sync, spec)) {
        sync->result.unchanged++;
        return;
    }
    int r = fs_replace(sync->host, sync->dir, spec->file, spec->text, spec->len, 0644,
                       sync->durable, &spec->err);
    if (r < 0)
        problem(sync, r, &spec->err);
    else
        sync->result.written++;
    spec->written = r == 0;
}

/* Nothing can be said about the directory: no kind is on disk for sure. */
static int fail_all(struct cdi_specs *specs, int r, const struct err *err)
{
    for (size_t i = 0; i < specs->n; i++)
        specs->specs[i].err = *err;
    return r;
}

int cdi_sync(const struct host *host, const char *dir, struct cdi_specs *specs, bool durable,
             struct cdi_sync_result *ret, struct err *err)
{
    struct cdi_names names = {0};
    int r = specs->n > 0 ? fs_mkdirs(host, dir, err) : 0;
    if (r == 0)
        r = cdi_list_files(host, dir, &names, err);
    if (r == -ENOENT && specs->n == 0)
        r = 0; /* nothing there and nothing to write */
    if (r < 0)
        return fail_all(specs, r, err);
    for (size_t i = 0; i < specs->n; i++)
        specs->specs[i].err = ERR_INIT;
    struct sync sync = {.host = host, .dir = dir, .specs = specs, .durable = durable, .err = err};
    fs_remove_stale(host, dir, CDI_VENDOR "-", ".tmp");
    for (size_t i = 0; i < names.n; i++)
        if (!names.is_dir[i])
            look_at_file(&sync, names.names[i]);
    for (size_t i = 0; i < specs->n; i++)
        write_spec(&sync, i);
    cdi_names_free(&names);
    if (ret)
        *ret = sync.result;
    return sync.r;
}

bool cdi_has_ours(const struct host *host, const char *dir)
{
    struct cdi_names names = {0};
    struct err err = ERR_INIT;
    const struct sync sync = {.host = host, .dir = dir};
    bool found = false;
    if (cdi_list_files(host, dir, &names, &err) < 0)
        return false;
    for (size_t i = 0; i < names.n && !found; i++)
        found = !names.is_dir[i] && is_ours(&sync, names.names[i]);
    cdi_names_free(&names);
    return found;
}
