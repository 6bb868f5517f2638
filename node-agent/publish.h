/* What the world is told: labels, annotation ccnode.io/status, condition, validation files. Pure: derived anew from what
 * was observed, wanted and planned; nothing of it is remembered (REF-K, pattern 1 of the users' pains).
 *
 *   cc.mode.state   when                                                              cc.ready.state
 *   changing        a chain writes to hardware, or is about to                        false
 *   waiting-busy    nothing runs, a change waits for a user of the device             false
 *   degraded        some devices failed, the others are verified and offered          by the rule below
 *   failed          no device could be brought to its wish                            empty
 *   mixed           all as wanted, different modes                                    by the rule below
 *   on off …        all as wanted and verified, or left as they are                   by the rule below; devtools: empty
 *
 * The rule: false while the host cannot be looked at (observed.stale); true when at least one device is offered (bound, in kubelet's list, resolvable by CDI) and every offered one
 * is verified in on or ppcie; empty when an offered one is in devtools; else false.
 * A chain that tries a device again which failed before does not count as a change: that device is withdrawn all the
 * while, and the others must not become unschedulable every minute because of it. Likewise one that runs for more than
 * PUBLISH_OVERDUE_MS: it is reported as failing, the others are served.
 */
#ifndef CCN_AGENT_PUBLISH_H
#define CCN_AGENT_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>

#include "node-agent/plan.h"

#define PUBLISH_OVERDUE_MS 15000 /* a healthy change takes 2 s; boot alone may take 10 s */

struct advice; /* advice.h */

/* What publish must know beyond observation and plan, one per device. */
struct publish_device {
    bool offered;          /* kubelet has it as healthy and CDI resolves it */
    const char *objection; /* as wanted, and yet it is not offered: why; NULL or "" = none */
    bool retrying;         /* its chain is a further try after a failure */
    int64_t acting_ms;     /* how long its chain has been running; 0 = none */
    char resource[80];     /* "nvidia.com/GH100_H100_PCIE" */
};

struct publish_input {
    const struct config *config;
    const struct intent *intent;
    const struct observed *observed;
    const struct plan *plan;
    const struct publish_device *devices; /* observed->n */
    const char *trouble_reason;           /* of the node as a whole, CamelCase; "" = none */
    const char *trouble;                  /* kubelet, CDI, Lease, …: one sentence */
    const struct advice *advice;          /* ADVICE_KINDS of them, or NULL: nothing */
};

enum label_action { LABEL_KEEP, LABEL_SET, LABEL_DELETE };

struct label_wish {
    enum label_action action;
    char value[24];
};

struct published {
    /* false: some mode is still being read, and nothing is published yet; but where another device may be written to
     * already that is said first */
    bool decided;
    struct label_wish mode_state, ready_state, capable, present;
    char *status;        /* annotation; JSON array, the caller's: publish_done() */
    char cond_status[8]; /* True, False, Unknown */
    char cond_reason[64];
    char cond_message[1024];
    bool vfio_ready; /* every managed device is bound as wanted (REF-K M-VAL-1) */
    bool mode_ready; /* every managed device is verified in its wanted mode */
    size_t n_failed, n_busy, n_changing, n_offered;
};

void publish_derive(const struct publish_input *in, struct published *ret);
void publish_done(struct published *published); /* accepts a zeroed one */

/* publish_is_event() - is a trouble of the node worth an Event, after it has lasted so long? The condition tells it at
 * once. KubeletUnavailable waits: kubelet comes seconds after us when the node boots or kubelet is restarted. */
#define PUBLISH_KUBELET_EVENT_MS 30000
bool publish_is_event(const char *trouble_reason, int64_t lasted_ms);

/* publish_health() - one word of a device for annotation, metrics and status: "healthy", "changing", "busy", "failed",
 * "unmanaged", "unknown". */
const char *publish_health(const struct publish_input *in, size_t device);
/* publish_reason() - why, without anything that changes by itself (no times); "" when healthy. */
const char *publish_reason(const struct publish_input *in, size_t device);

#endif
