#include "node-agent/gpu/fsp.h"

#include <errno.h>
#include <string.h>

enum {
    MCTP_SINGLE = 0xc0000000, /* start and end of message, everything else 0 */
    NVDM_HEADER = 0x0010de7e, /* vendor-defined PCI message of vendor 10de; type in 31:24 */
    NVDM_FSP_RESPONSE = 0x15,
    ANSWER_HEAD = 5, /* MCTP header, message header, task, request type, status */
    REQUEST_MAX = 8,
};

void fsp_setup(struct fsp *fsp, struct regs *regs, const struct chip *chip)
{
    *fsp = (struct fsp){.regs = regs, .chip = chip};
}

void fsp_new_session(struct fsp *fsp)
{
    fsp->open = false;
    fsp->deadline_us = regs_now_us(fsp->regs) + FSP_SESSION_US;
}

bool fsp_pause(struct fsp *fsp, int64_t begin_us, int64_t limit_us, unsigned look)
{
    static const int64_t steps_us[] = {500, 1000, 1000, 2000, 5000, 10000};
    int64_t now = regs_now_us(fsp->regs);
    if (now - begin_us > limit_us || now > fsp->deadline_us)
        return false;
    size_t last = sizeof steps_us / sizeof steps_us[0] - 1;
    regs_pause_us(fsp->regs, steps_us[look < last ? look : last]);
    return true;
}

void fsp_expect(struct fsp *fsp)
{
    if (fsp->latency_us >= 200) /* less is not worth a sleep */
        regs_pause_us(fsp->regs, fsp->latency_us);
}

void fsp_learn(struct fsp *fsp, int64_t begin_us, unsigned looks)
{
    if (looks > 1)
        fsp->latency_us = regs_now_us(fsp->regs) - begin_us;
    else
        fsp->latency_us -= fsp->latency_us / 32; /* it may have been there for longer */
}

int fsp_parse(const uint32_t *packet, size_t n, uint32_t type, struct fsp_answer *ret,
              struct err *err)
{
    if (n < ANSWER_HEAD)
        return err_set(err, EBADMSG, "answer of %zu bytes is too short", n * 4);
    if ((packet[0] & MCTP_SINGLE) != MCTP_SINGLE)
        return err_set(err, EBADMSG, "answer in several packets (header 0x%08x)", packet[0]);
    if ((packet[1] & 0xffffff) != NVDM_HEADER || packet[1] >> 24 != NVDM_FSP_RESPONSE)
        return err_set(err, EBADMSG, "answer has message header 0x%08x instead of 0x%08x",
                       packet[1], (uint32_t)NVDM_FSP_RESPONSE << 24 | NVDM_HEADER);
    if (packet[3] != type)
        return err_set(err, EBADMSG, "answer belongs to a request of type 0x%x, not 0x%x",
                       packet[3], type);
    if (packet[4] != 0) {
        (void)err_set(err, EREMOTEIO, "refused with status 0x%x", packet[4]);
        err->device_status = packet[4];
        return -EREMOTEIO;
    }
    ret->n = n - ANSWER_HEAD < FSP_ANSWER_DWORDS ? n - ANSWER_HEAD : FSP_ANSWER_DWORDS;
    memcpy(ret->payload, packet + ANSWER_HEAD, ret->n * sizeof ret->payload[0]);
    return 0;
}

int fsp_request(struct fsp *fsp, uint32_t type, const uint32_t *payload, size_t n,
                struct fsp_answer *ret, struct err *err)
{
    const struct fsp_mailbox *box = fsp->chip->mailbox == MAILBOX_EMEM ? &fsp_emem : &fsp_mnoc;
    uint32_t packet[FSP_MAX_DWORDS] = {MCTP_SINGLE, type << 24 | NVDM_HEADER};
    if (fsp->chip->mailbox == MAILBOX_NONE || n > REQUEST_MAX)
        return err_set(err, EINVAL, "no request of %zu words to this chip", n);
    memcpy(packet + 2, payload, n * sizeof *payload);
    int r = fsp->open ? 0 : box->open(fsp, err);
    fsp->open = false; /* until all went well */
    if (r == 0)
        r = box->send(fsp, packet, n + 2, err);
    fsp->owed = r == 0;
    if (r == 0)
        r = box->receive(fsp, packet, err);
    fsp->owed = fsp->owed && r == -ETIMEDOUT;
    if (r >= 0)
        r = fsp_parse(packet, (size_t)r, type, ret, err);
    fsp->open = r == 0 || r == -EREMOTEIO;
    return r;
}
