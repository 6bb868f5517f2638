/* FSP mailbox over MNOC, port 0 (REF-P 5). Names are the FSP's: it receives what we send. */
#include <errno.h>

#include "node-agent/gpu/fsp.h"

enum {
    SEND_INFO = 0x8f1f04,
    SEND_DATA = 0x8f1f08,
    RECEIVE_INFO = 0x8f1f84,
    RECEIVE_DATA = 0x8f1f88,
    SIZE_MASK = 0xfffff,
    TRIGGER = 1 << 20,
    READY = 1 << 24,
    FAULT = 1 << 25,
    CREDIT = 1 << 26,
    LIMIT = 4160, /* bytes of a packet on port 0 */
    SMALLEST = 20,
    CREDIT_EVERY = 16, /* dwords */
};
#define READY_LIMIT_US 5000000
#define CREDIT_LIMIT_US 1000000
#define ANSWER_LIMIT_US 5000000

static int check_fault(uint32_t info, const char *which, struct err *err)
{
    return info & FAULT ? err_set(err, EIO, "FSP %s mailbox reports an error (0x%08x)", which, info)
                        : 0;
}

/* Until bit @bit of the receive mailbox is set. */
static int wait_bit(struct fsp *fsp, uint32_t bit, int64_t limit_us, const char *what,
                    struct err *err)
{
    int64_t begin = regs_now_us(fsp->regs);
    uint32_t info;
    for (unsigned look = 0;; look++) {
        int r = regs_read(fsp->regs, RECEIVE_INFO, &info, err);
        if (r < 0 || info & bit)
            return r;
        if (!fsp_pause(fsp, begin, limit_us, look)) {
            r = check_fault(info, "receive", err);
            return r < 0 ? r
                         : err_set(err, ETIMEDOUT, "FSP does not %s (mailbox reads 0x%08x)", what,
                                   info);
        }
    }
}

/* Errors are cleared when an answer is sent, so they are looked at when none came. */
static int wait_answer(struct fsp *fsp, uint32_t *ret, struct err *err)
{
    int64_t begin = regs_now_us(fsp->regs);
    fsp_expect(fsp);
    for (unsigned look = 0;; look++) {
        int r = regs_read(fsp->regs, SEND_INFO, ret, err);
        if (r == 0 && *ret & READY)
            fsp_learn(fsp, begin, look + 1);
        if (r < 0 || *ret & READY)
            return r;
        if (!fsp_pause(fsp, begin, ANSWER_LIMIT_US, look)) {
            r = check_fault(*ret, "send", err);
            return r < 0 ? r
                         : err_set(err, ETIMEDOUT, "FSP does not answer (mailbox reads 0x%08x)",
                                   *ret);
        }
    }
}

/* Reading the last dword releases the mailbox. */
static int read_data(struct fsp *fsp, uint32_t info, uint32_t *packet, struct err *err)
{
    uint32_t size = info & SIZE_MASK;
    if (size > LIMIT)
        return err_set(err, EBADMSG, "FSP answer of %u bytes is longer than a packet", size);
    uint32_t n = (size + 3) / 4;
    int r = 0;
    for (uint32_t i = 0; i < n && r == 0; i++)
        r = regs_read_any(fsp->regs, SEND_DATA, &packet[i], err);
    return r < 0 ? r : (int)n;
}

static int mnoc_open(struct fsp *fsp, struct err *err)
{
    uint32_t info, dropped[FSP_MAX_DWORDS];
    int64_t begin = regs_now_us(fsp->regs);
    int r = regs_read(fsp->regs, SEND_INFO, &info, err);
    for (unsigned look = 0; r == 0 && fsp->owed && !(info & READY); look++) {
        if (!fsp_pause(fsp, begin, ANSWER_LIMIT_US, look))
            break;
        r = regs_read(fsp->regs, SEND_INFO, &info, err);
    }
    if (r == 0 && info & READY)
        r = read_data(fsp, info, dropped, err);
    return r < 0 ? r : 0;
}

static int mnoc_send(struct fsp *fsp, const uint32_t *packet, size_t n, struct err *err)
{
    uint32_t info;
    int r = regs_read(fsp->regs, RECEIVE_INFO, &info, err);
    if (r == 0)
        r = check_fault(info, "receive", err);
    if (r == 0 && !(info & READY))
        r = wait_bit(fsp, READY, READY_LIMIT_US, "take commands", err);
    if (r == 0)
        r = regs_write(fsp->regs, RECEIVE_INFO, (uint32_t)n * 4 | TRIGGER, err);
    for (size_t i = 0; i < n && r == 0; i++) {
        if (i % CREDIT_EVERY == 0)
            r = wait_bit(fsp, CREDIT, CREDIT_LIMIT_US, "grant credit", err);
        if (r == 0)
            r = regs_write(fsp->regs, RECEIVE_DATA, packet[i], err);
    }
    if (r == 0)
        r = regs_read(fsp->regs, RECEIVE_INFO, &info, err);
    return r < 0 ? r : check_fault(info, "receive", err);
}

static int mnoc_receive(struct fsp *fsp, uint32_t *packet, struct err *err)
{
    uint32_t info;
    int r = wait_answer(fsp, &info, err);
    if (r < 0)
        return r;
    uint32_t size = info & SIZE_MASK;
    int n = read_data(fsp, info, packet, err); /* also of a bad one: it releases the mailbox */
    if (n < 0)
        return n;
    if (size < SMALLEST || size % 4 != 0)
        return err_set(err, EBADMSG, "FSP answer of an impossible size (%u bytes)", size);
    r = regs_read(fsp->regs, SEND_INFO, &info, err);
    if (r == 0)
        r = check_fault(info, "send", err);
    return r < 0 ? r : n;
}

const struct fsp_mailbox fsp_mnoc = {mnoc_open, mnoc_send, mnoc_receive};
