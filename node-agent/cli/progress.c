#include "node-agent/cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/device.h"

#define TICK_MS 100

struct line {
    char bdf[BDF_SIZE], name[40], what[80];
    int64_t started_ms, ended_ms; /* ended 0: still running */
};

struct progress {
    struct loop *loop;
    bool quiet;
    size_t n, shown; /* lines, and how many of them are on the screen */
    struct line lines[NV_MAX_DEVICES];
    char note[100];
    struct loop_timer *tick;
};

/* What fits into a line; a wrapped one could not be drawn over. */
static int columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1 : 79;
}

static void draw(struct progress *progress)
{
    char text[400];
    int width = columns();
    if (progress->quiet)
        return;
    if (progress->shown > 0)
        (void)fprintf(stderr, "\033[%zuA", progress->shown);
    for (size_t i = 0; i < progress->n; i++) {
        const struct line *l = &progress->lines[i];
        int64_t end = l->ended_ms ? l->ended_ms : loop_now_ms(progress->loop);
        (void)snprintf(text, sizeof text, "%s  %-20.20s %6.1f s  %s", l->bdf, l->name,
                       (double)(end - l->started_ms) / 1000, l->what);
        (void)fprintf(stderr, "\r%.*s\033[K\n", width, text);
    }
    progress->shown = progress->n;
    if (*progress->note) {
        (void)fprintf(stderr, "\r%.*s\033[K\n", width, progress->note);
        progress->shown++;
    } else {
        (void)fputs("\033[J", stderr);
    }
    (void)fflush(stderr);
}

static void on_tick(void *arg)
{
    struct progress *progress = arg;
    progress->tick = loop_add_timer(progress->loop, TICK_MS, on_tick, progress);
    draw(progress);
}

struct progress *progress_new(struct loop *loop, bool quiet)
{
    struct progress *progress = xcalloc(1, sizeof *progress);
    progress->loop = loop;
    const char *term = getenv("TERM");
    progress->quiet = quiet || !isatty(STDERR_FILENO) || !term || strcmp(term, "dumb") == 0;
    return progress;
}

static struct line *find(struct progress *progress, const char *bdf, const char *name)
{
    for (size_t i = 0; i < progress->n; i++)
        if (strcmp(progress->lines[i].bdf, bdf) == 0)
            return &progress->lines[i];
    if (progress->n == NV_MAX_DEVICES)
        return NULL;
    struct line *l = &progress->lines[progress->n++];
    *l = (struct line){.started_ms = loop_now_ms(progress->loop)};
    (void)snprintf(l->bdf, sizeof l->bdf, "%s", bdf);
    (void)snprintf(l->name, sizeof l->name, "%.39s", name);
    return l;
}

void progress_say(struct progress *progress, const char *bdf, const char *name, const char *what,
                  bool over)
{
    struct line *l = find(progress, bdf, name);
    if (!l || progress->quiet)
        return;
    (void)snprintf(l->what, sizeof l->what, "%.79s", what);
    l->ended_ms = over ? loop_now_ms(progress->loop) : 0;
    if (!progress->tick)
        progress->tick = loop_add_timer(progress->loop, TICK_MS, on_tick, progress);
    draw(progress);
}

void progress_note(struct progress *progress, const char *text)
{
    (void)snprintf(progress->note, sizeof progress->note, "%s", text);
    if (progress->n > 0 || *text)
        draw(progress);
}

void progress_free(struct progress *progress)
{
    if (!progress)
        return;
    loop_cancel(progress->tick);
    if (progress->n > 0)
        draw(progress);
    free(progress);
}
