/* What ccnode-device is doing: one device (or the node), opened as far as its steps need it, and the steps.
 *
 *   closed  | work_open(): lock, refuse when held, awake, registers, chip known     | open
 *   open    | unbind, bind, release, remove: drivers change under the mapping       | closed
 *   open    | reset: chip and mapping stay, knobs and mailbox are forgotten         | open
 * The lock stays until the process ends. Errors carry their cure in `cure` where there is a better one than
 * work_cure() knows by code. Inside the program.
 */
#ifndef CCN_GPU_WORK_H
#define CCN_GPU_WORK_H

#include <stdbool.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/answer.h"
#include "node-agent/gpu/chip.h"
#include "node-agent/gpu/knobs.h"
#include "node-agent/gpu/power.h"
#include "node-agent/gpu/regs.h"
#include "node-agent/gpu/worker.h"

struct work {
    struct host host;
    char target[BDF_SIZE]; /* "node" or a BDF */
    const char *lock_dir;
    bool load_modules;
    int64_t users_seen_us; /* when every process was last looked at; 0 = never */
    int lock_fd;
    bool locked;  /* this step failed because another worker has the lock */
    int lock_pid; /* whose pid it says, 0 = none */
    struct power power;
    bool open;
    bool has_chip; /* survives a reset */
    struct nv_device dev;
    struct regs *regs;
    bool by_vfio;  /* registers through VFIO: nobody else has the device */
    bool may_bind; /* this step may bind an unbound device to VFIO for that */
    struct chip_config config;
    const struct chip *chip;
    bool priv_ring; /* Hopper: initialised since the last reset */
    struct knobs knobs;
    const char *cure; /* static text; set together with an error */
};

/* work_open() - Return: 0; -EBUSY held, or another worker has it; errors of the layers below. */
int work_open(struct work *work, struct err *err);
/* work_open_to_read() - and booted, for modes and knobs to be read. The privileged ring is left as it is (REF-P 1.6) unless
 * the mailbox can't be reached without it. */
int work_open_to_read(struct work *work, struct err *err);
/* work_open_mailbox() - and ready for knobs: booted, privileged ring up. Keeps the knobs that are known. */
int work_open_mailbox(struct work *work, struct err *err);
void work_close(struct work *work); /* registers only; power and lock stay */
int work_lock(struct work *work, struct err *err);
void work_end(struct work *work); /* end of input: power/control as it was, everything closed */

/* work_step() - one step; @argument "" for none; members of the answer into @answer. Return: 0 or -errno. */
int work_step(struct work *work, enum worker_step step, const char *argument, struct answer *answer,
              struct err *err);

/* work_query() - the query step; faults of the device are an answer, not an error */
int work_query(struct work *work, struct answer *answer, struct err *err);

/* work_cure() - what to do about an error, NULL = nothing better than its message */
const char *work_cure(const struct work *work, const struct err *err);

#endif
