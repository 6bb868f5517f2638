/* Carries out the chains of a plan: one worker per device, all in parallel, barriers and undo as the plan says.
 * Alone (through workers) changes devices. Asynchronous on the loop; no decisions of its own.
 */
#ifndef CCN_AGENT_ACT_H
#define CCN_AGENT_ACT_H

#include "node-agent/plan.h"
#include "node-agent/workers.h"

struct act;

enum act_result {
    ACT_NOTHING, /* the plan had no steps for it */
    ACT_DONE,    /* the whole chain */
    ACT_FAILED,  /* a step failed; what was staged is put back if that was still possible */
    ACT_UNDONE,  /* put back because another device of a joint change failed */
    ACT_STOPPED, /* act_stop() came before its end */
};

struct act_device {
    enum act_result result;
    enum worker_step failed_step;
    char failed_code[24]; /* errno name of that step */
    bool locked;          /* it failed because another worker has the device */
    int lock_pid;         /* that one, 0 = not known */
    bool undone;          /* with FAILED: there was an undo chain, and it succeeded */
    bool staged_back;     /* and in it the knobs of before */
    bool report_valid;    /* a query in the chain answered */
    struct nv_report report;
    enum cc_mode verified; /* by a verify step after the reset; UNKNOWN = none */
    char was_driver[32];   /* answer of unbind */
    int64_t started_ms, ended_ms;
    char error[640]; /* "step: what was seen; cure" */
};

struct act_callbacks {
    /* a step starts (answer NULL) or has ended; may be NULL */
    void (*on_step)(void *arg, size_t device, const struct plan_step *step,
                    const struct worker_answer *answer);
    /* one device is through, the others may still run (not with `together`: then all at the end); may be NULL */
    void (*on_device)(void *arg, size_t device, const struct act_device *result);
    /* all are through; the act is freed by itself after this returns */
    void (*on_done)(void *arg, const struct act_device *results, size_t n);
    void *arg;
};

/**
 * act_start() - carry out @plan, whose @observed has users that were looked at just now
 * @plan, @observed: copied as far as needed
 * Always ends in on_done, never called from inside act_start().
 */
struct act *act_start(struct workers *workers, struct loop *loop, const struct plan *plan,
                      const struct observed *observed, const struct act_callbacks *callbacks);

/* act_stop() - begin no further step; on_done follows when the running ones have ended. */
void act_stop(struct act *act);

/* act_abandon() - forget it: no callback any more; its workers end by themselves after the step they are in. Only at the
 * end of the process, for chains that read. */
void act_abandon(struct act *act);

#endif
