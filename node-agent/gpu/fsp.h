/* Requests to the security processor (FSP) of a chip, over EMEM (Hopper, LS10) or MNOC (Blackwell): REF-P 4 and 5.
 *
 *   closed   | fsp_request() opens: old answers dropped, half used queues reset
 *   open     | request and answer went through: nothing is outstanding
 *   doubtful | after a timeout or a broken answer: as closed; what was written must be read back
 *
 * There is no number that ties an answer to its request, so whoever writes knobs reads them back in a later session.
 * Sources: NVIDIA/gpu-admin-tools gpu/fsp_emem_rpc.py, gpu/fsp_mnoc_rpc.py; open-gpu-kernel-modules kern_fsp*.c.
 */
#ifndef CCN_GPU_FSP_H
#define CCN_GPU_FSP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "node-agent/gpu/chip.h"
#include "node-agent/gpu/regs.h"

#define FSP_MAX_DWORDS 1040     /* 4160 bytes, the larger of the two packet limits */
#define FSP_ANSWER_DWORDS 32    /* payload kept of an answer; those of knobs have one */
#define FSP_SESSION_US 20000000 /* all requests of one session together */

struct fsp {
    struct regs *regs;
    const struct chip *chip;
    bool open;
    bool fresh; /* EMEM: the queues have just been seen empty */
    bool
        owed; /* a request went out whose answer was not waited for any longer: it may still come */
    int64_t deadline_us;
    int64_t latency_us; /* what answers took lately: slept before the first look for the next */
    uint32_t cmd_tail, msg_tail; /* EMEM: tails that mean "taken" and "no message" */
};

struct fsp_answer {
    size_t n; /* dwords of payload */
    uint32_t payload[FSP_ANSWER_DWORDS];
};

/* fsp_setup() - @chip must have a mailbox; touches nothing yet */
void fsp_setup(struct fsp *fsp, struct regs *regs, const struct chip *chip);
/* fsp_new_session() - forget what is known of the queues; starts the time budget */
void fsp_new_session(struct fsp *fsp);

/**
 * fsp_request() - one message, one answer
 * @type: NVDM type; @payload: n dwords, at most 8
 * Return: 0; -EREMOTEIO with the status the FSP answered; -EBADMSG an answer that breaks the format; -ETIMEDOUT silence;
 * -EIO errors of the mailbox; -errno of the register access.
 */
int fsp_request(struct fsp *fsp, uint32_t type, const uint32_t *payload, size_t n,
                struct fsp_answer *ret, struct err *err);

/* fsp_parse() - packet of n dwords that answers a request of @type; pure, takes any bytes */
int fsp_parse(const uint32_t *packet, size_t n, uint32_t type, struct fsp_answer *ret,
              struct err *err);

/* The two mailboxes; inside the room. open: drop what is left from others. */
struct fsp_mailbox {
    int (*open)(struct fsp *fsp, struct err *err);
    int (*send)(struct fsp *fsp, const uint32_t *packet, size_t n, struct err *err);
    /* Return: dwords, at most FSP_MAX_DWORDS */
    int (*receive)(struct fsp *fsp, uint32_t *packet, struct err *err);
};
extern const struct fsp_mailbox fsp_emem, fsp_mnoc;
/* fsp_emem_look() - do its registers answer at all. Return: 0; -EIO they read as an error; -errno. */
int fsp_emem_look(struct regs *regs, struct err *err);

/* fsp_pause() - between two looks at a mailbox that has no answer yet; @look counts from 0.
 * Return: false when @limit_us since @begin_us or the session's budget is used up. */
bool fsp_pause(struct fsp *fsp, int64_t begin_us, int64_t limit_us, unsigned look);
/* fsp_expect() - before the first look for an answer: as long as the last ones took.
 * fsp_learn() - it was there after @looks looks. Both keep the number of register reads low. */
void fsp_expect(struct fsp *fsp);
void fsp_learn(struct fsp *fsp, int64_t begin_us, unsigned looks);

#endif
