/* The FSP's side of a message: MCTP packets, NVDM header, product reconfiguration (PRC) commands, knobs.
 * The same over both transports. Formats: gpu-admin-tools gpu/fsp_mctp.py, open-gpu-kernel-modules fsp_nvdm_format.h.
 * Error codes other than 0, 0x1e3 and 0x202 are estimates: nothing public says what firmware answers. */
#include "simulator/model/state.h"

#define MCTP_SOM 0x80000000u
#define MCTP_EOM 0x40000000u
#define NVDM_HEADER 0x0010de7eu /* vendor-defined PCI, NVIDIA; type in bits 31:24 */
#define NVDM_PRC 0x13u
#define NVDM_RESPONSE 0x15u
#define TASK_ID 3u

#define PRC_ECC 0x01
#define PRC_COUPLE_RESET 0x04
#define PRC_BLOCK_NVLINKS 0x0a
#define PRC_READ 0x0c
#define PRC_WRITE 0x0d

#define ERROR_KNOB 0x1e3u
#define ERROR_FORBIDDEN 0x1e5u /* estimate */
#define ERROR_COMMAND 0x6u     /* estimate: seen for a command in the wrong state */

#define GARBAGE                                                                                    \
    0xa5c30000u /* upper half of knob values is undefined: catch clients that don't mask */

bool fault_take(struct device *d, int f)
{
    if (d->faults[f] <= 0)
        return false;
    d->faults[f]--;
    return true;
}

int64_t prc_due(struct state *s, const struct device *d)
{
    return due_in(s, s->delays[MODEL_DELAY_RPC] + (uint32_t)d->faults[MODEL_FAULT_FSP_SLOW]);
}

/* --- knobs ----------------------------------------------------------------------------------------------------- */

/* The knob that must be 1 for this one to be written in-band; 0 = none. -1: a permission, in-band writes are refused */
static int permission_of(unsigned id)
{
    static const uint8_t pairs[] = {1, 3, 5, 7, 9, 33, 35, 44, 46};
    for (unsigned i = 0; i < sizeof pairs; i++) {
        if (id == pairs[i])
            return -1;
        if (id == pairs[i] + 1u)
            return pairs[i];
    }
    return 0;
}

int knob_read(const struct device *d, unsigned id)
{
    bool ppcie = id == KNOB_PPCIE || id == KNOB_PPCIE_ALLOW;
    if (id == 0 || id >= MODEL_KNOBS)
        return -1;
    if (ppcie &&
        (d->desc.no_ppcie || d->faults[MODEL_FAULT_PPCIE_INVALID] || d->kind & KIND_BLACKWELL))
        return -1;
    int off = d->faults[MODEL_FAULT_INBAND_OFF];
    if (permission_of(id) < 0 && (off == 1 || (off > 1 && off == (int)id)))
        return 0;
    return d->knobs[id];
}

static uint32_t knob_write(struct device *d, unsigned id, uint32_t value)
{
    if (knob_read(d, id) < 0)
        return ERROR_KNOB;
    int permission = permission_of(id);
    if (permission < 0 || (permission > 0 && knob_read(d, (unsigned)permission) != 1))
        return ERROR_FORBIDDEN;
    if (!fault_take(d, MODEL_FAULT_WRITE_LOST))
        d->knobs[id] = (uint16_t)value;
    return 0;
}

/* --- commands -------------------------------------------------------------------------------------------------- */

static uint32_t couple_reset(struct device *d, int channel)
{
    /* the tool sends it on channel 1; another channel is not known to work */
    if (d->kind != KIND_HOPPER || channel != 1 || !d->knobs[KNOB_COUPLING])
        return ERROR_COMMAND;
    d->coupled = true;
    return 0;
}

/* Return: error; *ret_value >= 0 is a payload */
static uint32_t command(struct device *d, const struct assembly *a, int channel, int *ret_value)
{
    unsigned sub = a->words[2] & 0xff, id = a->words[2] >> 16;
    if (a->words[1] >> 24 != NVDM_PRC || (a->words[1] & 0xffffff) != NVDM_HEADER || a->n < 3)
        return ERROR_COMMAND;
    switch (sub) {
    case PRC_READ:
        *ret_value = a->n == 3 ? knob_read(d, id) : -1;
        return *ret_value < 0 ? ERROR_KNOB : 0;
    case PRC_WRITE:
        return a->n == 4 ? knob_write(d, id, a->words[3]) : ERROR_COMMAND;
    case PRC_ECC:
        return 0;
    case PRC_COUPLE_RESET:
        return couple_reset(d, channel);
    case PRC_BLOCK_NVLINKS:
        d->blocked_links = id | a->words[3] << 16;
        return 0;
    default:
        return ERROR_COMMAND;
    }
}

static uint32_t forced_error(struct device *d)
{
    uint32_t error = (uint32_t)d->faults[MODEL_FAULT_FSP_ERROR];
    d->faults[MODEL_FAULT_FSP_ERROR] = 0;
    return error ? error : (uint32_t)d->faults[MODEL_FAULT_FSP_ERROR_ALWAYS];
}

static uint32_t respond(struct device *d, const struct assembly *a, int channel, uint32_t *answer)
{
    int value = -1;
    uint32_t request = a->words[1] >> 24, error = forced_error(d);
    if (error == 0)
        error = command(d, a, channel, &value);
    d->counters.rpcs++;
    answer[0] = MCTP_SOM | MCTP_EOM;
    answer[1] = NVDM_HEADER | (fault_take(d, MODEL_FAULT_WRONG_TYPE) ? 0x14u : NVDM_RESPONSE) << 24;
    answer[2] = TASK_ID;
    answer[3] = fault_take(d, MODEL_FAULT_WRONG_ECHO) ? request + 1 : request;
    answer[4] = error;
    if (fault_take(d, MODEL_FAULT_SHORT_ANSWER))
        return 4;
    if (error || value < 0)
        return 5;
    answer[5] = (uint32_t)value | GARBAGE;
    return 6;
}

uint32_t prc_packet(struct device *d, struct assembly *a, int channel, const uint32_t *words,
                    uint32_t n, uint32_t *answer)
{
    uint32_t first = 0;
    if (n == 0)
        return 0;
    uint8_t sequence = words[0] >> 28 & 3;
    if (words[0] & MCTP_SOM) {
        *a = (struct assembly){.open = true, .sequence = sequence};
    } else if (!a->open || sequence != ((a->sequence + 1) & 3)) {
        a->open = false; /* a packet is missing: the whole message is dropped */
        return 0;
    } else {
        first = 1;
        a->sequence = sequence;
    }
    for (uint32_t i = first; i < n; i++, a->n++)
        if (a->n < sizeof a->words / sizeof *a->words)
            a->words[a->n] = words[i];
    if (!(words[0] & MCTP_EOM))
        return 0;
    a->open = false;
    return respond(d, a, channel, answer);
}
