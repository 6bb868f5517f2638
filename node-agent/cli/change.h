/* set-mode, bind, unbind: a wish for the chosen devices, carried out by plan and act; what came of it per device. */
#ifndef CCN_CLI_CHANGE_H
#define CCN_CLI_CHANGE_H

#include "node-agent/act.h"
#include "node-agent/cli/cli.h"
#include "node-agent/intent.h"
#include "node-agent/plan.h"

struct change_wish {
    enum cc_mode mode; /* UNKNOWN: as it is */
    enum binding binding;
};

enum change_result { CHANGE_NONE, CHANGE_DONE, CHANGE_REFUSED, CHANGE_FAILED };
const char *change_result_name(enum change_result result); /* unchanged, changed, refused, failed */

#define CHANGE_MAX_STEPS (2 * PLAN_MAX_STEPS)

struct change_step {
    char text[48]; /* "stage on" */
    bool ok;
    int64_t ms;
};

struct change_device {
    char bdf[BDF_SIZE], name[64];
    enum change_result result;
    bool acted; /* a chain ran: this result stands, whatever a later look says */
    int status; /* what it means for the exit status */
    enum cc_mode from, to;
    char from_driver[32], to_driver[32];
    size_t n_steps;
    struct change_step steps[CHANGE_MAX_STEPS];
    int64_t started_ms, duration_ms;
    char error[700]; /* "" = none */
};

struct change {
    size_t n;
    struct change_device *devices; /* the chosen ones, by BDF */
    int status;                    /* of the command */
};

/**
 * change_run() - look, choose, plan, act
 * With --dry-run the plan is printed and ret->n is 0: nothing was touched, registers were not even read, since that
 * would wake the devices.
 * Return: CLI_OK (what came of it is in @ret, to be freed with change_free()), or a status after a complaint.
 */
int change_run(struct cli *cli, const struct change_wish *wish, struct change *ret);
void change_free(struct change *change);

#endif
