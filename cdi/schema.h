/* The members that a CDI file may have, as a table, and a strict walk along it; inside the CDI room only.
 * Facts: SPEC.md and specs-go/config.go of cncf-tags/container-device-interface, up to 1.1.0. */
#ifndef CCN_CDI_SCHEMA_H
#define CCN_CDI_SCHEMA_H

#include <stdbool.h>
#include <yaml.h>

#include "cdi/report.h"

/* 0.6.0 as 600: compares as a number */
#define VERSION(major, minor, patch) ((major)*10000 + (minor)*100 + (patch))

struct scan {
    struct cdi_report *report;
    const char *file;
    bool ours;
    bool failed; /* an error was found */
    yaml_document_t *doc;
    unsigned visits; /* aliases can make a small file an endless tree */
    int need;        /* lowest version that allows what the file uses, … */
    unsigned need_line;
    const char *need_what; /* … because of this */
};

/* scan_error(), scan_warning() - a finding at @node's line (NULL: the whole file) */
#define scan_error(scan, node, cure, ...)                                                          \
    ((scan)->failed = true, cdi_report_add((scan)->report, CDI_ERROR, (scan)->ours, (scan)->file,  \
                                           node_line(node), cure, __VA_ARGS__))
#define scan_warning(scan, node, cure, ...)                                                        \
    cdi_report_add((scan)->report, CDI_WARNING, (scan)->ours, (scan)->file, node_line(node), cure, \
                   __VA_ARGS__)

unsigned node_line(const yaml_node_t *node);
bool node_is_null(const yaml_node_t *node);
/* node_text() - the bytes of a scalar, "" for anything else; terminated, may contain zeros */
const char *node_text(const yaml_node_t *node, size_t *ret_len);
/* node_member() - value of a mapping's member or NULL (also when it is null) */
const yaml_node_t *node_member(const struct scan *scan, const yaml_node_t *map, const char *name);
/* node_item() - item @i of a sequence, or NULL behind the end and when @list is no sequence */
const yaml_node_t *node_item(const struct scan *scan, const yaml_node_t *list, size_t i);

/* scan_require() - the file uses @what, which needs @version */
void scan_require(struct scan *scan, const yaml_node_t *node, int version, const char *what);

/* schema_walk() - unknown, doubled and missing members, wrong types, lowest version */
void schema_walk(struct scan *scan, const yaml_node_t *root);

#endif
