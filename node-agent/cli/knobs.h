/* ccnode get-mode --knobs */
#ifndef CCN_CLI_KNOBS_H
#define CCN_CLI_KNOBS_H

#include "node-agent/cli/cli.h"

struct json_object;

/* knobs_read() - the "knobs" list of every chosen idle device, by place in observed.devices; the caller's. Return: CLI_OK,
 * or CLI_FAILED or CLI_IN_USE when some could not be read (the reason is then the device's `error`). */
int knobs_read(struct cli *cli, struct json_object *ret[static NV_MAX_DEVICES]);
void knobs_print(const struct cli *cli, struct json_object *const knobs[static NV_MAX_DEVICES]);

#endif
