/* The journal, kept by ccnode as the agent keeps it while none runs: what was bound before, what is being changed, what
 * was verified. */
#ifndef CCN_CLI_RECORD_H
#define CCN_CLI_RECORD_H

#include "node-agent/act.h"
#include "node-agent/cli/cli.h"
#include "node-agent/intent.h"

/* record_before() - on disk before hardware is written. record_after() - what came of it; complains by itself. */
int record_before(struct cli *cli, const struct intent *intent, const struct plan *plan,
                  struct err *err);
void record_after(struct cli *cli, const struct intent *intent, const struct act_device *results,
                  size_t n);

#endif
