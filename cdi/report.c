#include "cdi/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

const char *cdi_severity_name(enum cdi_severity severity)
{
    switch (severity) {
    case CDI_NOTE:
        return "note";
    case CDI_WARNING:
        return "warning";
    case CDI_ERROR:
        break;
    }
    return "error";
}

static void make_printable(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            *s = '?';
}

void cdi_report_add(struct cdi_report *report, enum cdi_severity severity, bool ours,
                    const char *file, unsigned line, const char *cure, const char *cause_fmt, ...)
{
    if (report->n == CDI_MAX_FINDINGS)
        return;
    report->findings =
        xrealloc(report->findings, report->n + 1, sizeof *report->findings); /* 64 at most */
    struct cdi_finding *f = &report->findings[report->n++];
    *f = (struct cdi_finding){.severity = severity, .ours = ours, .line = line};
    (void)snprintf(f->file, sizeof f->file, "%s", file);
    if (report->n == CDI_MAX_FINDINGS) {
        (void)snprintf(f->cause, sizeof f->cause, "more findings than the %d shown here",
                       CDI_MAX_FINDINGS - 1);
        (void)snprintf(f->cure, sizeof f->cure, "put these right and check again");
        return;
    }
    va_list args;
    va_start(args, cause_fmt);
    (void)vsnprintf(f->cause, sizeof f->cause, cause_fmt, args);
    va_end(args);
    (void)snprintf(f->cure, sizeof f->cure, "%s", cure);
    make_printable(f->file);
    make_printable(f->cause);
    make_printable(f->cure);
}

void cdi_report_free(struct cdi_report *report)
{
    free(report->findings);
    *report = (struct cdi_report){0};
}

int cdi_report_worst(const struct cdi_report *report)
{
    int worst = -1;
    for (size_t i = 0; i < report->n; i++)
        if ((int)report->findings[i].severity > worst)
            worst = (int)report->findings[i].severity;
    return worst;
}

void cdi_seen_free(struct cdi_seen_list *list)
{
    free(list->items);
    *list = (struct cdi_seen_list){0};
}

static int by_name(const void *a, const void *b)
{
    const struct cdi_seen *x = a, *y = b;
    int r = strcmp(x->name, y->name);
    return r != 0 ? r : (x->line > y->line) - (x->line < y->line);
}

void cdi_seen_sort(struct cdi_seen_list *list)
{
    if (list->n > 0)
        qsort(list->items, list->n, sizeof *list->items, by_name);
}
