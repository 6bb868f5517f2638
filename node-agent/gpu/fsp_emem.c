/* FSP mailbox in EMEM: one 8 KiB memory behind a data port, two queues of one packet each per channel (REF-P 4). */
#include <errno.h>

#include "node-agent/gpu/fsp.h"

/* Channel 0 is the kernel driver's, 1 NVIDIA's second one; everything of ours goes over 2 (REF-P 4.2). */
#define CHANNEL 2
enum {
    CMD_HEAD = 0x8f2c00 + 8 * CHANNEL, /* writing it rings the bell */
    CMD_TAIL = 0x8f2c04 + 8 * CHANNEL,
    MSG_HEAD = 0x8f2c80 + 8 * CHANNEL,
    MSG_TAIL = 0x8f2c84 + 8 * CHANNEL,
    EMEMC = 0x8f2ac0 + 8 * CHANNEL,
    EMEMD = 0x8f2ac4 + 8 * CHANNEL,
    BASE = 1024 * CHANNEL,
    LIMIT = 1024,                             /* bytes of a packet */
    EMEMC_AT_BASE = BASE | 1 << 24 | 1 << 25, /* both accesses move on */
    SMALLEST = 20,                            /* bytes of an answer */
};
#define TAKEN_LIMIT_US 1000000 /* command read by the FSP */
#define ANSWER_LIMIT_US 5000000
#define SETTLE_LIMIT_US 5000000 /* a command that somebody left */

struct queue {
    uint32_t head, tail;
};

static int read_queue(struct fsp *fsp, uint32_t head_at, struct queue *ret, struct err *err)
{
    int r = regs_read(fsp->regs, head_at, &ret->head, err);
    return r < 0 ? r : regs_read(fsp->regs, head_at + 4, &ret->tail, err);
}

int fsp_emem_look(struct regs *regs, struct err *err)
{
    uint32_t v;
    return regs_read(regs, CMD_HEAD, &v, err);
}

static bool is_empty(struct queue q)
{
    return q.head == q.tail;
}

/* In the order of REF-P 4.3: tails before heads for commands, consumed before produced for messages. */
static int reset_queues(struct fsp *fsp, struct err *err)
{
    static const uint32_t order[] = {CMD_TAIL, CMD_HEAD, MSG_TAIL, MSG_HEAD};
    int r = 0;
    for (unsigned i = 0; i < 4 && r == 0; i++)
        r = regs_write(fsp->regs, order[i], BASE, err);
    fsp->msg_tail = BASE;
    return r;
}

static int emem_open(struct fsp *fsp, struct err *err)
{
    struct queue cmd = {0}, msg = {0};
    int64_t begin = regs_now_us(fsp->regs);
    int r = read_queue(fsp, CMD_HEAD, &cmd, err);
    if (r == 0)
        r = read_queue(fsp, MSG_HEAD, &msg, err);
    fsp->fresh = true;
    fsp->msg_tail = msg.tail;
    bool coming = fsp->owed || !is_empty(cmd);
    if (r < 0 || (!coming && is_empty(msg)))
        return r;
    /* somebody's answer may still be on its way: taken for ours later, it would be a wrong one */
    for (unsigned look = 0; r == 0 && coming && is_empty(msg); look++) {
        if (!fsp_pause(fsp, begin, SETTLE_LIMIT_US, look))
            break;
        r = read_queue(fsp, MSG_HEAD, &msg, err);
    }
    return r < 0 ? r : reset_queues(fsp, err);
}

static int wait_taken(struct fsp *fsp, struct err *err)
{
    int64_t begin = regs_now_us(fsp->regs);
    struct queue q;
    int r = regs_read(fsp->regs, CMD_HEAD, &q.head, err);
    if (r < 0 || q.head == fsp->cmd_tail)
        return r; /* the FSP sets head to tail when it has taken the last command */
    for (unsigned look = 0;; look++) {
        r = read_queue(fsp, CMD_HEAD, &q, err);
        if (r < 0 || is_empty(q))
            return r;
        if (!fsp_pause(fsp, begin, TAKEN_LIMIT_US, look))
            return err_set(err, ETIMEDOUT, "FSP does not take commands (queue head %u, tail %u)",
                           q.head, q.tail);
    }
}

static int emem_send(struct fsp *fsp, const uint32_t *packet, size_t n, struct err *err)
{
    int r = fsp->fresh ? 0 : wait_taken(fsp, err);
    fsp->fresh = false;
    fsp->cmd_tail = BASE + 4 * ((uint32_t)n - 1); /* of the last dword, not past it */
    if (r == 0)
        r = regs_write(fsp->regs, EMEMC, EMEMC_AT_BASE, err);
    for (size_t i = 0; i < n && r == 0; i++)
        r = regs_write(fsp->regs, EMEMD, packet[i], err);
    if (r == 0)
        r = regs_write(fsp->regs, CMD_TAIL, fsp->cmd_tail, err);
    return r < 0 ? r : regs_write(fsp->regs, CMD_HEAD, BASE, err);
}

/* Head and tail are two registers that are not written at once: believed when the tail reads the same before and
 * after a head that is where packets are. Return: 1 a message, 0 none yet. */
static int look_for_message(struct fsp *fsp, struct queue *q, struct err *err)
{
    uint32_t tail;
    int r = regs_read(fsp->regs, MSG_TAIL, &tail, err);
    *q = (struct queue){BASE, tail};
    if (r < 0 || tail == fsp->msg_tail)
        return r;
    r = read_queue(fsp, MSG_HEAD, q, err);
    return r < 0 ? r : q->tail == tail && q->head == BASE && !is_empty(*q);
}

static int wait_message(struct fsp *fsp, struct queue *ret, struct err *err)
{
    int64_t begin = regs_now_us(fsp->regs);
    fsp_expect(fsp);
    for (unsigned look = 0;; look++) {
        int r = look_for_message(fsp, ret, err);
        if (r > 0)
            fsp_learn(fsp, begin, look + 1);
        if (r != 0)
            return r;
        if (!fsp_pause(fsp, begin, ANSWER_LIMIT_US, look))
            return err_set(err, ret->tail == fsp->msg_tail ? ETIMEDOUT : EBADMSG,
                           "FSP does not answer (queue head %u, tail %u)", ret->head, ret->tail);
    }
}

static int emem_receive(struct fsp *fsp, uint32_t *packet, struct err *err)
{
    struct queue q;
    int r = wait_message(fsp, &q, err);
    if (r < 0)
        return r;
    fsp->msg_tail = q.head;
    uint32_t size = q.tail - q.head + 4;
    if (q.tail < q.head || size < SMALLEST || size > LIMIT || size % 4 != 0) {
        (void)regs_write(fsp->regs, MSG_TAIL, q.head, err);
        return err_set(err, EBADMSG, "FSP answer of an impossible size (queue head %u, tail %u)",
                       q.head, q.tail);
    }
    r = regs_write(fsp->regs, EMEMC, EMEMC_AT_BASE, err);
    for (uint32_t i = 0; i < size / 4 && r == 0; i++)
        r = regs_read_any(fsp->regs, EMEMD, &packet[i], err);
    if (r == 0)
        r = regs_write(fsp->regs, MSG_TAIL, q.head, err); /* consumed, whatever it says */
    return r < 0 ? r : (int)(size / 4);
}

const struct fsp_mailbox fsp_emem = {emem_open, emem_send, emem_receive};
