/* What to do: (wanted, observed, journal) -> per device a decision and an ordered chain of worker steps. Pure,
 * printable, deterministic: the same input gives the same plan, and a plan that was carried out is followed by an
 * empty one.
 *
 * The node's own part of a change (withdraw from kubelet, remove the CDI entry, cc.ready.state false, evict) comes
 * before the first chain starts and is the agent's; it is derived from `decision` and printed first.
 *
 * Rules kept here (design 3.2, 3.3, cc-mode-protocol.md 6-8): a device that anyone uses, or of which that is not
 * known, gets no step; in the CC modes it holds up only itself; a change that involves ppcie (to it or away from it)
 * or a switch takes all managed devices together, with barriers: everybody is staged and read back before anybody is
 * reset, and it waits until all are idle and refuses before the first write when one is not capable.
 * A device in active == wanted with other knobs pending is put back by staging alone, without a reset.
 */
#ifndef CCN_AGENT_PLAN_H
#define CCN_AGENT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "node-agent/gpu/worker.h"
#include "node-agent/intent.h"
#include "node-agent/journal.h"
#include "node-agent/node_state.h"

enum decision {
    DECISION_UNMANAGED, /* hands off */
    DECISION_IN_PLACE,  /* mode and binding as wanted, verified */
    DECISION_QUERY,     /* its state must be read first: the chain is "query" alone */
    DECISION_CHECK, /* as wanted, but released since it was last opened through VFIO: checked before it is offered */
    DECISION_CHANGE,  /* the chain leads to the wish */
    DECISION_BUSY,    /* in use: waits, is evicted, or fails, by policy */
    DECISION_REFUSED, /* not possible on this hardware, firmware or policy; reason says why */
    DECISION_WAIT,    /* quarantined, or not yet time to try again */
    DECISION_ACTING,  /* a chain of an earlier plan still runs on it: left alone until that ends */
};
const char *decision_name(enum decision decision);

#define PLAN_MAX_STEPS 16

struct plan_step {
    enum worker_step step;
    char argument[32]; /* mode or driver; "" = none */
    bool
        barrier; /* with `together`: starts when every chain of the plan has done the steps before it */
    bool point_of_no_return; /* from here on a failure is finished or retried, not put back */
};

struct device_plan {
    enum decision decision;
    bool
        serve; /* may be offered while this plan is carried out: verified, bound, not about to change
                  (with no_turn: not yet) */
    bool
        evict; /* BUSY: its pods are to be evicted, by policy, for a change that is known to be needed */
    char reason[704]; /* for BUSY, REFUSED, WAIT: who or what, and the cure */
    size_t n_steps;
    struct plan_step steps[PLAN_MAX_STEPS];
    size_t
        n_undo; /* run instead of the rest when the chain (or with `together` any chain) fails before
                           the point of no return: puts staged knobs back and binds again */
    struct plan_step undo[PLAN_MAX_STEPS];
};

struct plan {
    size_t n; /* as observed.n */
    struct device_plan devices[NV_MAX_DEVICES];
    bool
        together; /* one change of the whole node: barriers hold, one failure before a reset undoes all */
    bool changes;   /* some chain writes to hardware */
    bool queries;   /* some chain only reads */
    bool checks;    /* some chain checks a released device, which resets it */
    bool load_vfio; /* the VFIO driver module must be loaded first: node step load-module */
    char vfio_module[32];
    bool evict; /* pods of BUSY devices are to be evicted (policy evict, a change waits for them) */
};

struct plan_options {
    enum busy_policy busy;
    enum failure_policy failure;
    const char *vfio_driver; /* "auto" or a name */
    bool manage_vfio;
    bool check_released;
    bool
        no_turn; /* other nodes change first (concurrency.max): what was offered stays so until then */
    bool no_reset; /* ccnode set-mode --no-reset: stage and read back only */
    int64_t now_ms;
};

/* plan_make() - never fails: an impossible wish becomes DECISION_REFUSED. */
void plan_make(const struct plan_options *options, const struct intent *intent,
               const struct observed *observed, const struct journal *journal, struct plan *ret);

/* plan_print() - for --dry-run, --explain and /debug/plan. */
void plan_print_text(const struct plan *plan, const struct intent *intent,
                     const struct observed *observed, FILE *out);
void plan_print_json(const struct plan *plan, const struct intent *intent,
                     const struct observed *observed, FILE *out);

#endif
