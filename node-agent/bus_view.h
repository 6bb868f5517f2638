/* What Linux says of the PCIe links, errors and power of the devices, looked at when somebody asks for metrics and not
 * otherwise: the step "pci" of a worker, so that a port that does not wake never holds up the loop. */
#ifndef CCN_AGENT_BUS_VIEW_H
#define CCN_AGENT_BUS_VIEW_H

#include <stdbool.h>

#include "node-agent/workers.h"

struct bus_view;

/* Numbers as struct pci_state has them, -1 = not known. */
struct bus_device {
    char bdf[BDF_SIZE];
    char power[12]; /* "" = not known */
    int64_t speed, max_speed, width, max_width, correctable, nonfatal, fatal;
};

/* @on_seen: from the loop, after each bus_view_look() that returned true, however it ended */
struct bus_view *bus_view_new(struct workers *workers, void (*on_seen)(void *arg), void *arg);
void bus_view_free(struct bus_view *view); /* accepts NULL; before its workers */
/* bus_view_look() - look now; one look at a time, who asks meanwhile shares it. Return: false when it cannot be looked at:
 * nothing is known then. */
bool bus_view_look(struct bus_view *view);
/* bus_view_find() - as last seen. Return: NULL when nothing is known of it; accepts NULL. */
const struct bus_device *bus_view_find(const struct bus_view *view, const char *bdf);
/* bus_view_parse() - an answer to the step "pci" into @ret. Pure. Return: how many devices; what is not understood is left
 * out. */
size_t bus_view_parse(const struct worker_answer *answer,
                      struct bus_device ret[static NV_MAX_DEVICES]);

#endif
