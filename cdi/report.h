/* Findings, and what a scan of one file saw; inside the CDI room only. */
#ifndef CCN_CDI_REPORT_H
#define CCN_CDI_REPORT_H

#include "cdi/cdi.h"

/* cdi_report_add() - a finding; cause and cure are finished sentences without full stop. Foreign text in them is made
 * printable here, once. */
void cdi_report_add(struct cdi_report *report, enum cdi_severity severity, bool ours,
                    const char *file, unsigned line, const char *cure, const char *cause_fmt, ...)
    __attribute__((format(printf, 7, 8)));

/* One device that a file offers. */
struct cdi_seen {
    char name[320]; /* vendor/class=name */
    char node[192]; /* host path of its first node without type; "" = nothing to look for */
    unsigned line;
    unsigned file, dir; /* set by the caller that looks at several */
};

struct cdi_seen_list {
    size_t n, room;
    struct cdi_seen *items;
};
void cdi_seen_free(struct cdi_seen_list *list);
/* cdi_seen_sort() - by name, then by line */
void cdi_seen_sort(struct cdi_seen_list *list);

/* cdi_scan() - cdi_check_text() which also lists the devices of a file without errors; @seen may be NULL */
void cdi_scan(const char *file, const char *text, size_t len, struct cdi_report *report,
              struct cdi_seen_list *seen);

#endif
