/* FSP over EMEM (Hopper GPUs, LS10): queue registers, EMEM ports, packets.
 * Register meanings: open-gpu-kernel-modules dev_fsp_pri.h, gpu-admin-tools gpu/fsp_emem_rpc.py. */
#include "simulator/model/state.h"

#include <string.h>

#define EMEMC 0x8f2ac0u
#define EMEMD 0x8f2ac4u
#define QUEUE_HEAD 0x8f2c00u
#define QUEUE_TAIL 0x8f2c04u
#define MSGQ_HEAD 0x8f2c80u
#define MSGQ_TAIL 0x8f2c84u

#define EMEMC_ADDRESS 0x0000fffcu
#define EMEMC_ON_WRITE 0x01000000u
#define EMEMC_ON_READ 0x02000000u

static uint32_t base_of(const struct device *d, const struct channel *c)
{
    return (uint32_t)(c - d->channels) * EMEM_CHANNEL_BYTES;
}

static uint32_t emem_get(const struct device *d, uint32_t at)
{
    uint32_t v = 0;
    memcpy(&v, d->emem + (at & (EMEM_BYTES - 4)), 4);
    return v;
}

static void emem_put(struct device *d, uint32_t at, uint32_t v)
{
    memcpy(d->emem + (at & (EMEM_BYTES - 4)), &v, 4);
}

/* --- the FSP's side -------------------------------------------------------------------------------------------- */

/* The command may have been rewritten between doorbell and now: read when the firmware would. */
static void take_command(struct state *s, struct device *d, struct channel *c)
{
    uint32_t words[EMEM_CHANNEL_BYTES / 4];
    uint32_t n = (c->cmd_tail - c->cmd_head) / 4 + 1;
    c->take_at = 0;
    if (c->cmd_tail < c->cmd_head || n > EMEM_CHANNEL_BYTES / 4)
        return; /* nonsense stays where it is */
    for (uint32_t i = 0; i < n; i++)
        words[i] = emem_get(d, c->cmd_head + 4 * i);
    c->cmd_head = c->cmd_tail;
    c->n_answer = prc_packet(d, &c->assembly, (int)(c - d->channels), words, n, c->answer);
    happened(s, d, false);
    if (c->n_answer)
        c->answer_at = c->answer_at ? c->answer_at : now_ns(s);
}

static void put_answer(struct device *d, struct channel *c)
{
    uint32_t base = base_of(d, c);
    for (uint32_t i = 0; i < c->n_answer; i++)
        emem_put(d, base + 4 * i, c->answer[i]);
    c->answer_at = 0;
    c->msg_tail = base + 4 * (c->n_answer - 1);
    c->msg_head = base;
    c->torn = fault_take(d, MODEL_FAULT_TORN_QUEUE) ? 2 : 0;
}

/* taken half way, answered at the end; only the sum is an estimate somebody could check */
static void begin_command(struct channel *c, int64_t now, int64_t due)
{
    c->take_at = now + (due - now) / 2;
    c->answer_at = due;
    c->n_answer = 0;
}

void fsp_settle(struct state *s, struct device *d)
{
    int64_t now = now_ns(s);
    for (int i = 1; i < CHANNELS; i++) {
        struct channel *c = &d->channels[i];
        if (c->take_at && now >= c->take_at)
            take_command(s, d, c);
        if (c->answer_at && !c->take_at && c->n_answer && now >= c->answer_at)
            put_answer(d, c);
        if (c->queued && !c->answer_at) {
            begin_command(c, now, now + c->queued);
            c->queued = 0;
        }
    }
}

static void doorbell(struct state *s, struct device *d, struct channel *c)
{
    if (c->cmd_head == c->cmd_tail || d->faults[MODEL_FAULT_FSP_MUTE] || !booted(s, d))
        return;
    int64_t due = prc_due(s, d), now = now_ns(s);
    if (c->answer_at && !c->take_at && c->n_answer)
        c->queued = due - now + 1; /* one after the other: the last one's answer still comes */
    else
        begin_command(c, now, due);
}

void fsp_reset(struct device *d)
{
    memset(d->channels, 0, sizeof d->channels);
    memset(d->emem, 0, sizeof d->emem);
    memset(&d->mnoc, 0, sizeof d->mnoc);
}

void fsp_plant_answer(struct device *d)
{
    struct channel *c = &d->channels[2];
    static const uint32_t words[] = {0xc0000000, 0x1510de7e, 3, 0x13, 0, 0xa5c3dead};
    memcpy(c->answer, words, sizeof words);
    c->n_answer = d->mnoc.n_answer = 6;
    if (d->kind & KIND_EMEM) {
        put_answer(d, c);
    } else if (d->kind & KIND_BLACKWELL) {
        memcpy(d->mnoc.answer, words, sizeof words);
        d->mnoc.taken = 0;
        d->mnoc.ready = true;
    }
}

void fsp_plant_command(struct device *d)
{
    struct channel *c = &d->channels[2];
    static const uint32_t words[] = {0xc0000000, 0x1310de7e, 0x002d020c};
    uint32_t base = base_of(d, c);
    for (uint32_t i = 0; i < 3; i++)
        emem_put(d, base + 4 * i, words[i]);
    c->take_at = c->answer_at = 0;
    c->cmd_head = base;
    c->cmd_tail = base + 8;
}

/* --- the host's side ------------------------------------------------------------------------------------------- */

/* the address moves by a dword with each access whose bit is set */
static uint32_t port_data(struct device *d, struct channel *c, const uint32_t *store)
{
    uint32_t at = c->emem_control & EMEMC_ADDRESS, v = 0;
    if (store)
        emem_put(d, at, *store);
    else
        v = emem_get(d, at);
    if (c->emem_control & (store ? EMEMC_ON_WRITE : EMEMC_ON_READ))
        c->emem_control = (c->emem_control & ~EMEMC_ADDRESS) | ((at + 4) & EMEMC_ADDRESS);
    return v;
}

static uint32_t message_head(struct channel *c)
{
    if (c->torn > 0) {
        c->torn--;
        return 0;
    }
    return c->msg_head;
}

uint32_t fsp_read(struct state *s, struct device *d, uint32_t at)
{
    struct channel *c = &d->channels[at >> 3 & (CHANNELS - 1)];
    (void)s;
    switch (at - 8 * (uint32_t)(c - d->channels)) {
    case EMEMC:
        return c->emem_control;
    case EMEMD:
        return port_data(d, c, NULL);
    case QUEUE_HEAD:
        return c->cmd_head;
    case QUEUE_TAIL:
        return c->cmd_tail;
    case MSGQ_HEAD:
        return message_head(c);
    case MSGQ_TAIL:
        return c->msg_tail;
    default:
        return 0;
    }
}

void fsp_write(struct state *s, struct device *d, uint32_t at, uint32_t v)
{
    struct channel *c = &d->channels[at >> 3 & (CHANNELS - 1)];
    switch (at - 8 * (uint32_t)(c - d->channels)) {
    case EMEMC:
        c->emem_control = v & (EMEMC_ADDRESS | EMEMC_ON_WRITE | EMEMC_ON_READ);
        break;
    case EMEMD:
        (void)port_data(d, c, &v);
        break;
    case QUEUE_HEAD:
        c->cmd_head = v;
        doorbell(s, d, c);
        break;
    case QUEUE_TAIL:
        c->cmd_tail = v;
        break;
    case MSGQ_HEAD:
        c->msg_head = v;
        break;
    case MSGQ_TAIL:
        c->msg_tail = v;
        break;
    default:
        break;
    }
}
