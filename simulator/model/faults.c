/* Faults by name, knobs and modes from outside. */
#include <errno.h>
#include <string.h>

#include "simulator/model/state.h"

static const struct {
    const char *name, *help;
} faults[MODEL_FAULTS] = {
    [MODEL_FAULT_FSP_ERROR] = {"fsp-error",
                               "the next command answers this code (0x202 was seen on an H100)"},
    [MODEL_FAULT_FSP_ERROR_ALWAYS] = {"fsp-error-always", "every command answers this code"},
    [MODEL_FAULT_FSP_MUTE] = {"fsp-mute", "1: commands are never taken, never answered"},
    [MODEL_FAULT_FSP_SLOW] = {"fsp-slow", "every answer takes this many milliseconds more"},
    [MODEL_FAULT_STALE_ANSWER] = {"stale-answer",
                                  "1: an old answer lies unread in the message queue now"},
    [MODEL_FAULT_STALE_COMMAND] = {"stale-command",
                                   "1: an old command lies untaken in the queue now (EMEM only)"},
    [MODEL_FAULT_SHORT_ANSWER] = {"short-answer", "this many answers are shorter than 5 dwords"},
    [MODEL_FAULT_WRONG_TYPE] = {"wrong-type", "this many answers have a wrong NVDM type"},
    [MODEL_FAULT_WRONG_ECHO] = {"wrong-echo", "this many answers echo another request type"},
    [MODEL_FAULT_TORN_QUEUE] = {"torn-queue",
                                "for this many answers the tail shows before the head (EMEM only)"},
    [MODEL_FAULT_WRITE_LOST] = {"write-lost",
                                "this many knob writes answer success but change nothing"},
    [MODEL_FAULT_PPCIE_INVALID] = {"ppcie-invalid",
                                   "1: firmware without PPCIe, its knobs answer 0x1e3"},
    [MODEL_FAULT_INBAND_OFF] =
        {"inband-off", "1: no knob may be written in-band; else the permission knob that is 0"},
    [MODEL_FAULT_MNOC_ERROR] = {"mnoc-error", "1: mailbox error bit (Blackwell)"},
    [MODEL_FAULT_MNOC_NO_CREDIT] = {"mnoc-no-credit",
                                    "1: no credit to write a message (Blackwell)"},
    [MODEL_FAULT_BOOT_NEVER] = {"boot-never", "1: the boot flag is never set"},
    [MODEL_FAULT_BOOT_SLOW] = {"boot-slow", "boots take this many milliseconds more"},
    [MODEL_FAULT_BOOT_BADF] = {"boot-badf",
                               "1: the boot flag reads 0xbadf5620 until boot is complete"},
    [MODEL_FAULT_FIREWALL_NEVER] =
        {"firewall-never", "1: after the next reset the BAR firewall stays up; 2: it is up now "
                           "(Blackwell)"},
    [MODEL_FAULT_DEAD] = {"dead", "1: off the bus, everything reads all ones"},
    [MODEL_FAULT_MMIO_DEAD] = {"mmio-dead",
                               "1: BARs read all ones, configuration space still answers; 2: until "
                               "the next bus reset"},
    [MODEL_FAULT_PRIV_ERROR] = {"priv-error", "1: every register reads 0xbadf4100"},
    [MODEL_FAULT_SECURITY] = {"security", "security lockdown; the value is the fault word"},
    [MODEL_FAULT_RECOVERY] = {"recovery", "1: recovery mode"},
    [MODEL_FAULT_RETRY_FOREVER] = {"retry-forever",
                                   "1: after the next reset configuration answers retry for ever"},
    [MODEL_FAULT_MODE_LOST] = {"mode-lost",
                               "this many resets activate nothing, whatever the knobs say"},
    [MODEL_FAULT_RESET_NOOP] = {"reset-noop", "1: a reset returns and does nothing"},
    [MODEL_FAULT_LINK_SPEED] = {"link-speed", "the PCIe link trained to this generation (1 to 6)"},
    [MODEL_FAULT_LINK_WIDTH] = {"link-width", "the PCIe link has this many lanes"},
    [MODEL_FAULT_RESET_ERROR] = {"reset-error", "writing reset fails with this errno (1: ENOTTY)"},
    [MODEL_FAULT_RESET_HANGS] = {"reset-hangs", "1: writing reset never returns"},
    [MODEL_FAULT_RESET_EARLY] = {"reset-early",
                                 "1: writing reset returns before the device is reset"},
    [MODEL_FAULT_UNBIND_BLOCKS] = {"unbind-blocks", "1: unbind does not return"},
    [MODEL_FAULT_D3COLD_STUCK] = {"d3cold-stuck",
                                  "1: the device sleeps in D3cold and can't be woken"},
    [MODEL_FAULT_NO_POWER_CONTROL] = {"no-power-control", "1: no power/control attribute"},
    [MODEL_FAULT_MAP_DENIED] = {"map-denied",
                                "1: mapping a BAR fails with EPERM although lockdown is off"},
    [MODEL_FAULT_PRIV_RING] = {"priv-ring", "1: the mailbox reads errors until the privileged "
                                            "register ring is started (Hopper)"},
    [MODEL_FAULT_LINK_SLOW] = {"link-slow", "the link of a Grace superchip to its processor comes "
                                            "up this many milliseconds after the boot"},
    [MODEL_FAULT_VFIO_WEDGED] = {"vfio-wedged",
                                 "opening it through VFIO fails with EINVAL; 1: until it is "
                                 "removed from the bus, 2: until it is reset"},
    [MODEL_FAULT_VFIO_DENIED] = {"vfio-denied", "1: opening it through VFIO fails with EPERM"},
    [MODEL_FAULT_AER_CORRECTABLE] = {"aer-correctable",
                                     "the kernel counted this many bad TLPs (correctable)"},
    [MODEL_FAULT_AER_NONFATAL] = {"aer-nonfatal",
                                  "the kernel counted this many completion timeouts (nonfatal)"},
    [MODEL_FAULT_AER_FATAL] = {"aer-fatal",
                               "the kernel counted this many data link errors (fatal)"},
};

const char *model_fault_name(int f)
{
    return f >= 0 && f < MODEL_FAULTS ? faults[f].name : NULL;
}

const char *model_fault_help(int f)
{
    return f >= 0 && f < MODEL_FAULTS ? faults[f].help : NULL;
}

int model_fault_by_name(const char *name)
{
    for (int f = 0; f < MODEL_FAULTS; f++)
        if (strcmp(faults[f].name, name) == 0)
            return f;
    return -1;
}

int model_fault(struct model *m, int hw, int f)
{
    struct device *d = device_at(m, hw);
    return d && f >= 0 && f < MODEL_FAULTS ? d->faults[f] : 0;
}

/* what happens at once, or ends with the fault */
static void fault_effects(struct device *d, int f, int value)
{
    if (f == MODEL_FAULT_STALE_ANSWER || f == MODEL_FAULT_STALE_COMMAND) {
        if (value && f == MODEL_FAULT_STALE_ANSWER && d->kind & KIND_FSP)
            fsp_plant_answer(d);
        else if (value && d->kind & KIND_EMEM)
            fsp_plant_command(d);
        d->faults[f] = 0; /* it happened */
    }
    if (f == MODEL_FAULT_RETRY_FOREVER && value == 0)
        d->retrying = false;
    if (f == MODEL_FAULT_FIREWALL_NEVER && d->dvsec)
        d->firewall_at = value > 1                                   ? INT64_MAX
                         : value == 0 && d->firewall_at == INT64_MAX ? 0
                                                                     : d->firewall_at;
}

void model_fault_set(struct model *m, int hw, int f, int value)
{
    struct device *d = device_at(m, hw);
    if (!d || f < 0 || f >= MODEL_FAULTS)
        return;
    lock(m);
    settle(m->s, d);
    d->faults[f] = value;
    fault_effects(d, f, value);
    unlock(m);
}

/* --- knobs and modes ------------------------------------------------------------------------------------------- */

int model_knob(struct model *m, int hw, unsigned id)
{
    struct device *d = device_at(m, hw);
    if (!d || !(d->kind & KIND_FSP))
        return -1;
    lock(m);
    int v = knob_read(d, id);
    unlock(m);
    return v;
}

int model_set_knob(struct model *m, int hw, unsigned id, uint16_t v)
{
    struct device *d = device_at(m, hw);
    if (!d || !(d->kind & KIND_FSP) || id == 0 || id >= MODEL_KNOBS)
        return -EINVAL;
    lock(m);
    d->knobs[id] = v;
    happened(m->s, d, false);
    unlock(m);
    return 0;
}

enum model_mode model_active(struct model *m, int hw)
{
    struct device *d = device_at(m, hw);
    if (!d)
        return MODEL_MODE_OFF;
    uint32_t active = d->active;
    return active & MODE_PPCIE_BIT ? MODEL_MODE_PPCIE : (enum model_mode)(active & 3);
}

void model_drift(struct model *m, int hw, enum model_mode mode)
{
    struct device *d = device_at(m, hw);
    if (!d || !(d->kind & KIND_FSP))
        return;
    lock(m);
    bool cc = mode == MODEL_MODE_ON || mode == MODEL_MODE_DEVTOOLS;
    d->knobs[KNOB_CCM] = cc;
    d->knobs[KNOB_CCD] = mode == MODEL_MODE_DEVTOOLS || mode == MODEL_MODE_INVALID;
    d->knobs[KNOB_PPCIE] = mode == MODEL_MODE_PPCIE;
    bool filtered = mode == MODEL_MODE_PPCIE || (mode == MODEL_MODE_ON && d->kind == KIND_HOPPER);
    d->knobs[KNOB_DECOUPLER] = filtered && d->kind != KIND_SWITCH ? 2 : 0;
    latch_mode(d);
    happened(m->s, d, false);
    unlock(m);
}

const char *model_mode_name(enum model_mode mode)
{
    static const char *const names[] = {"off", "on", "invalid", "devtools", "ppcie"};
    return mode <= MODEL_MODE_PPCIE ? names[mode] : "?";
}
