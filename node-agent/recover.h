/* Opt-in last resort for a device that is dead (recovery.rescan): reset it by its bridge (SBR), and where that is not
 * possible or does not help, take it from the bus and look for it again. The kernel offers the bus reset only where
 * nothing else is below the bridge, and the worker refuses it for a device that is off the bus (REF-P 7.4, 7.6).
 *
 * What was removed is in the journal until the bus was scanned: whatever ends the agent in between, its successor scans.
 * SIGTERM waits for both, they are one atomic step.
 *
 * Only after two failures in a row that read like a dead device, only while nobody uses it, one device at a time, and no
 * more often than every RECOVER_AGAIN_MS: a device that needs power cycling must not keep the bus busy.
 */
#ifndef CCN_AGENT_RECOVER_H
#define CCN_AGENT_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "node-agent/gpu/device.h"

#define RECOVER_AGAIN_MS (5 * 60 * 1000)
#define RECOVER_REMEMBERED 16

struct agent;
struct worker;

struct recover {
    struct worker *worker; /* NULL = nothing is under way */
    int64_t scan_after_ms; /* a scan failed: not again before */
    char bdf[BDF_SIZE];
    struct {
        char bdf[BDF_SIZE];
        int64_t at_ms;
    } done[RECOVER_REMEMBERED]; /* the oldest place is used again */
};

/* recover_was_tried() - @bdf was taken from the bus some time ago: what comes back is checked before it is offered */
bool recover_was_tried(struct agent *agent, const char *bdf);
/* recover_dead() - finish what was begun, else begin with the first device that needs it, if any. recover_is_busy() - the
 * agent must not end now; change_end_if_idle() follows. recover_stop() - forget what is under way. */
void recover_dead(struct agent *agent);
bool recover_is_busy(const struct agent *agent);
void recover_stop(struct agent *agent);

#endif
