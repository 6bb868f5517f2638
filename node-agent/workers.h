/* The parent's side of ccnode-device (gpu/worker.h): one process per device and task, asked step by step,
 * asynchronously on a loop.
 *
 *   state      | worker_step()      | answer                     | late                          | worker_close()
 *   idle       | busy               | -                          | -                             | gone
 *   busy       | (own mistake)      | idle, callback             | abandoned, callback ETIMEDOUT | gone after the answer
 *   abandoned  | callback ETIMEDOUT | dropped                    | -                             | forgotten
 *
 * An abandoned worker may sit in the kernel for minutes; its device stays quarantined until the process has ended
 * (workers_is_quarantined(), on_released). SIGTERM is never sent to a worker: end of input is its order to stop.
 */
#ifndef CCN_AGENT_WORKERS_H
#define CCN_AGENT_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "base/loop.h"
#include "node-agent/gpu/worker.h"
#include "node-agent/node_state.h"

struct json_object;
struct workers;
struct worker;

struct workers_options {
    const char *
        program; /* path of ccnode-device; NULL: found beside or in ../libexec/ccnode of this program */
    const char *lock_dir; /* below the host root; NULL: /run/ccnode/lock */
    /* a quarantined device's worker has ended at last; may be NULL */
    void (*on_released)(void *arg, const char *bdf);
    void *arg;
};

struct worker_answer {
    enum worker_step step;
    bool ok;
    int64_t ms;             /* as the worker measured; for a timeout the deadline */
    char code[24];          /* errno name, "" when ok */
    uint32_t device_status; /* with EREMOTEIO */
    bool locked;            /* with EBUSY: another worker has the device */
    int lock_pid;           /* that one, 0 = not known */
    char error[400];
    char cure[200];
    struct json_object
        *members; /* the whole answer, borrowed, only inside the callback; NULL after a timeout */
};

struct workers *workers_new(const struct host *host, struct loop *loop,
                            const struct workers_options *options, struct err *err);
void workers_free(struct workers *workers); /* closes all; accepts NULL */
/* workers_allow_modprobe() - may workers started from now on load a missing VFIO driver? At first they may. */
void workers_allow_modprobe(struct workers *workers, bool allow);
/* workers_is_quarantined() - a worker of ours was abandoned with @bdf and has not ended. workers_is_locked() - some
 * worker has it, of whichever parent: also one that an agent before us left behind. @ret_pid: of it, 0 = not known; may
 * be NULL. */
bool workers_is_quarantined(const struct workers *workers, const char *bdf, int *ret_pid);
bool workers_is_locked(const struct workers *workers, const char *bdf, int *ret_pid);
unsigned workers_running(const struct workers *workers); /* processes not yet reaped */

/* worker_open() - start a process for @target, a BDF or "node". Return: the worker, or NULL. */
struct worker *worker_open(struct workers *workers, const char *target, struct err *err);
/* worker_open_users_known() - the caller has just looked at the users of all devices: the worker does not so at once */
struct worker *worker_open_users_known(struct workers *workers, const char *target,
                                       struct err *err);

/* worker_step() - send one step; exactly one callback follows, on the loop. @argument may be NULL or "". */
void worker_step(struct worker *worker, enum worker_step step, const char *argument,
                 void (*cb)(void *arg, const struct worker_answer *answer), void *arg);

/* worker_close() - end of input; the process ends by itself. No callback comes any more. Accepts NULL. */
void worker_close(struct worker *worker);

/* worker_answer_parse() - one line without its end, as the answer to @step. Pure.
 * Return: 0, ret->members is the caller's (json_object_put()); -EBADMSG: not JSON, no answer, or one to another step. */
int worker_answer_parse(const char *line, size_t len, enum worker_step step,
                        struct worker_answer *ret);

/* worker_answer_text() - a string member of the answer; ret untouched when absent. */
void worker_answer_text(const struct worker_answer *answer, const char *key, char *ret,
                        size_t room);

/* worker_report() - members of a good query answer as a report. Return: 0, -EBADMSG (report untouched). */
int worker_report(const struct worker_answer *answer, struct nv_report *ret, struct err *err);

#endif
