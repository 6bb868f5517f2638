/* ccnode-sim ctl: looks at a served node and changes it.
 *
 * Hardware (faults, knobs, modes, time) is changed in the model's shared state directly; what Linux or a hand at the
 * machine does (plug, unplug, modprobe) is asked of the server through ROOT/.sim/fs/ctl (control.h). */
#ifndef CCN_SIMULATOR_TREE_CTL_H
#define CCN_SIMULATOR_TREE_CTL_H

#include "base/err.h"
#include "simulator/model/model.h"

struct ctl {
    const char *root;
    struct model *model;
    int argc; /* arguments after the command's name */
    char **argv;
    struct err err;
};

/* ctl_main() - one command; none, or help, needs no root. Return: exit status (0 done, 1 failed, 2 usage). */
int ctl_main(const char *root, int argc, char **argv);

/* For the commands themselves; all return 0 or negative with ctl->err set. */

/* ctl_ask() - one write to a file of ROOT/.sim/fs/ctl */
int ctl_ask(struct ctl *ctl, const char *file, const char *text);
/* ctl_device() - device number of a BDF or a part of it that only one device has */
int ctl_device(struct ctl *ctl, const char *text);
int ctl_number(struct ctl *ctl, const char *text, uint64_t max, uint64_t *ret);

/* ctl_model.c */
int ctl_state(struct ctl *ctl);
int ctl_modes(struct ctl *ctl);
int ctl_knobs(struct ctl *ctl);
int ctl_counters(struct ctl *ctl);
int ctl_trace(struct ctl *ctl);
int ctl_faults(struct ctl *ctl);
int ctl_fault(struct ctl *ctl);
int ctl_clear(struct ctl *ctl);
int ctl_delays(struct ctl *ctl);
int ctl_scale(struct ctl *ctl);
int ctl_advance(struct ctl *ctl);
int ctl_drift(struct ctl *ctl);
int ctl_lockdown(struct ctl *ctl);
int ctl_events(struct ctl *ctl);

#endif
