/* FSP over MNOC port 0 (Blackwell). Names are the FSP's: the host writes its receive mailbox, reads its send mailbox.
 * Register meanings: gpu-admin-tools gpu/mnoc.py and gpu/regs/gb100/mnoc.py. */
#include "simulator/model/state.h"

#define SEND_INFO 0x8f1f04u
#define SEND_DATA 0x8f1f08u
#define RECEIVE_INFO 0x8f1f84u
#define RECEIVE_DATA 0x8f1f88u

#define INFO_SIZE 0x000fffffu
#define INFO_TRIGGER 0x00100000u
#define INFO_READY 0x01000000u
#define INFO_ERROR 0x02000000u
#define INFO_CREDIT 0x04000000u

void mnoc_settle(struct state *s, struct device *d)
{
    struct mnoc *q = &d->mnoc;
    if (!q->answer_at || now_ns(s) < q->answer_at)
        return;
    q->answer_at = 0;
    q->taken = 0;
    q->ready = true;
}

static void execute(struct state *s, struct device *d)
{
    struct mnoc *q = &d->mnoc;
    uint32_t n = q->expected / 4;
    q->expected = q->got = 0;
    if (d->faults[MODEL_FAULT_FSP_MUTE] || !booted(s, d))
        return;
    uint32_t answered = prc_packet(d, &q->assembly, -1, q->words, n, q->answer);
    happened(s, d, false);
    if (!answered)
        return;
    q->n_answer = answered;
    q->ready = false;
    q->answer_at = prc_due(s, d);
}

uint32_t mnoc_read(struct state *s, struct device *d, uint32_t at)
{
    struct mnoc *q = &d->mnoc;
    uint32_t error = d->faults[MODEL_FAULT_MNOC_ERROR] ? INFO_ERROR : 0;
    (void)s;
    switch (at) {
    case RECEIVE_INFO:
        return INFO_READY | error | (d->faults[MODEL_FAULT_MNOC_NO_CREDIT] ? 0 : INFO_CREDIT);
    case SEND_INFO:
        return error | (q->ready ? INFO_READY | (q->n_answer - q->taken) * 4 : 0);
    case SEND_DATA:
        if (!q->ready)
            return 0;
        if (q->taken + 1 >= q->n_answer)
            q->ready = false; /* reading the last dword releases the mailbox (estimate) */
        return q->answer[q->taken++];
    default:
        return 0;
    }
}

void mnoc_write(struct state *s, struct device *d, uint32_t at, uint32_t v)
{
    struct mnoc *q = &d->mnoc;
    if (at == RECEIVE_INFO) {
        if (v & INFO_TRIGGER) {
            q->expected = v & INFO_SIZE;
            q->got = 0;
            if (q->expected > MNOC_BYTES)
                q->expected = 0;
        }
        return;
    }
    if (q->got >= q->expected || d->faults[MODEL_FAULT_MNOC_NO_CREDIT])
        return;
    q->words[q->got / 4] = v;
    q->got += 4;
    if (q->got >= q->expected)
        execute(s, d);
}
