#include "node-agent/cdi_files.h"

#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/dir_watch.h"
#include "base/log.h"

#define SOON_MS 1000 /* several files are written together, ours too */
#define AGAIN_MS 60000
#define UNWATCHED_MS 10000 /* our directory is not there yet, or cannot be watched */

struct cdi_files {
    struct loop *loop;
    const struct host *host;
    bool (*is_stale)(void *arg);
    void (*on_change)(void *arg);
    void *arg;
    char *dir; /* "" = nothing is looked at */
    struct dir_watch *watch;
    bool watched; /* our directory; the usual ones are absent on many hosts */
    struct loop_timer *timer;
    int64_t due_ms; /* of the timer */
    struct advice advice;
    char error[256]; /* told already */
};

void cdi_files_judge(const struct cdi_report *report, struct advice *ret)
{
    unsigned told = 0, more = 0;
    *ret = (struct advice){0};
    for (size_t i = 0; i < report->n; i++) {
        const struct cdi_finding *f = &report->findings[i];
        if (f->ours || f->severity != CDI_ERROR)
            continue;
        char line[24] = "";
        if (f->line > 0)
            (void)snprintf(line, sizeof line, " line %u", f->line);
        /* two sentences leave room in the condition for the rest */
        if (told == 2)
            more++;
        else if (told++ == 0)
            advice_add(ret,
                       "Kata starts no pod with a GPU while %.160s%s is broken: %.160s (%.120s)",
                       f->file, line, f->cause, f->cure);
        else
            advice_add(ret, "likewise %.80s%s: %.60s", f->file, line, f->cause);
    }
    if (more > 0)
        advice_add(ret, "%u more: see \"ccnode cdi check\"", more);
    ret->blocks = told > 0;
}

static void look_in(struct cdi_files *files, int64_t delay_ms);

static void look(struct cdi_files *files)
{
    const char *dirs[] = {"/etc/cdi", "/var/run/cdi", files->dir};
    struct cdi_report report = {0};
    struct err err = ERR_INIT;
    struct advice now;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) /* first: nothing is missed in between */
        files->watched = dir_watch_add(files->watch, dirs[i]); /* ours is the last one */
    if (cdi_check_dirs(files->host, dirs, ARRAY_LEN(dirs), &report, &err) < 0 &&
        strcmp(files->error, err.msg) != 0) {
        log_warning("the CDI files of others cannot be looked at", "error", err.msg, NULL);
        (void)snprintf(files->error, sizeof files->error, "%.250s", err.msg);
    }
    cdi_files_judge(&report, &now);
    cdi_report_free(&report);
    if (strcmp(now.text, files->advice.text) == 0 && !files->is_stale(files->arg))
        return;
    files->advice = now;
    files->on_change(files->arg);
}

static void on_due(void *arg)
{
    struct cdi_files *files = arg;
    files->timer = NULL;
    look(files);
    look_in(files, files->watched ? AGAIN_MS : UNWATCHED_MS);
}

static void look_in(struct cdi_files *files, int64_t delay_ms)
{
    int64_t due_ms = loop_now_ms(files->loop) + delay_ms;
    if (!*files->dir || (files->timer && files->due_ms <= due_ms))
        return;
    loop_cancel(files->timer);
    files->due_ms = due_ms;
    files->timer = loop_add_timer(files->loop, delay_ms, on_due, files);
}

static void on_directory(void *arg)
{
    struct cdi_files *files = arg;
    look_in(files, SOON_MS);
}

struct cdi_files *cdi_files_new(struct loop *loop, const struct host *host,
                                bool (*is_stale)(void *arg), void (*on_change)(void *arg),
                                void *arg)
{
    struct cdi_files *files = xcalloc(1, sizeof *files);
    *files = (struct cdi_files){
        .loop = loop, .host = host, .is_stale = is_stale, .on_change = on_change, .arg = arg};
    files->dir = xstrdup("");
    files->watch = dir_watch_new(files->loop, files->host, on_directory, files);
    return files;
}

void cdi_files_free(struct cdi_files *files)
{
    if (!files)
        return;
    loop_cancel(files->timer);
    dir_watch_free(files->watch);
    free(files->dir);
    free(files);
}

void cdi_files_configure(struct cdi_files *files, const char *dir)
{
    if (strcmp(files->dir, dir) == 0)
        return;
    free(files->dir);
    files->dir = xstrdup(dir);
    loop_cancel(files->timer);
    files->timer = NULL;
    if (*dir) {
        look_in(files, SOON_MS);
    } else if (*files->advice.text) {
        files->advice = (struct advice){0};
        files->on_change(files->arg);
    }
}

const struct advice *cdi_files_advice(const struct cdi_files *files)
{
    return &files->advice;
}
