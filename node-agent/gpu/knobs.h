/* Product reconfiguration (PRC) knobs: what a chip becomes at its next reset (REF-P 4.7, 6).
 * Ids: NVIDIA/gpu-admin-tools gpu/prc.py. Values are 16 bits; the upper half of an answer is undefined.
 */
#ifndef CCN_GPU_KNOBS_H
#define CCN_GPU_KNOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "node-agent/gpu/device.h"
#include "node-agent/gpu/fsp.h"

enum knob_id {
    KNOB_2 = 2, /* must be 0 for CC and PPCIe, as 4 and 34; NVIDIA gives no name */
    KNOB_4 = 4,
    KNOB_CCD_ALLOW = 5, /* "in-band" permissions: 1 = the next id may be written by the host */
    KNOB_CCD = 6,       /* CC devtools */
    KNOB_CCM_ALLOW = 7,
    KNOB_CCM = 8, /* CC mode */
    KNOB_DECOUPLER_ALLOW = 9,
    KNOB_DECOUPLER = 10, /* BAR0 decoupler: 2 full filter, 0 none */
    KNOB_34 = 34,
    KNOB_PPCIE_ALLOW = 44,
    KNOB_PPCIE = 45,
    KNOB_LAST = 47,
};
#define KNOB_STATUS_UNKNOWN 0x1e3 /* status of an id the firmware does not have */

/* knob_name() - "CCM", "PPCIE_ALLOW_INB", …; "" for ids without a name */
const char *knob_name(unsigned id);

/* Knob values known to be on the device: read in this session and not written by others (the worker holds the lock).
 * Cleared by every reset of the device and whenever an access went wrong. */
struct knobs {
    struct fsp fsp;
    bool known[KNOB_LAST + 1];
    bool absent[KNOB_LAST + 1]; /* the firmware does not have it */
    uint16_t value[KNOB_LAST + 1];
};

void knobs_setup(struct knobs *knobs, struct regs *regs, const struct chip *chip);
/* knobs_forget() - everything is read anew; a new FSP session */
void knobs_forget(struct knobs *knobs);

/* knobs_read() - Return: 0; -EREMOTEIO (device_status; absent[] is set for an unknown id), -errno. */
int knobs_read(struct knobs *knobs, unsigned id, uint16_t *ret, struct err *err);
int knobs_write(struct knobs *knobs, unsigned id, uint16_t value, struct err *err);

/* ---- modes ---- */

struct knob_target {
    uint8_t id;
    uint16_t value;
};

/**
 * mode_targets() - the knobs of a mode in the order in which they are safe to write; pure
 * CCM is switched on before and off after CCD, so no interruption leaves CCD alone (REF-P 6.3).
 * @with_ppcie: the firmware has the PPCIe knobs
 * Return: number of targets; -EOPNOTSUPP the chip can't do that.
 */
int mode_targets(const struct chip *chip, enum cc_mode mode, bool with_ppcie,
                 struct knob_target ret[12], struct err *err);

/* mode_capable() - set of CC_MODE_BIT(); asks the firmware. Return: 0 or -errno. */
int mode_capable(struct knobs *knobs, unsigned *ret, struct err *err);

/* mode_pending() - what the knobs would give at the next reset. */
int mode_pending(struct knobs *knobs, enum cc_mode *ret, struct err *err);

/**
 * mode_stage() - write the knobs that differ
 * Everything is read and the permission of the deciding knob is checked before the first write; when a write is
 * refused the ones before it are put back.
 * Return: number of writes; -EOPNOTSUPP not on this chip; -EACCES forbidden by out-of-band policy; -EREMOTEIO, -errno.
 */
int mode_stage(struct knobs *knobs, enum cc_mode mode, struct err *err);

/* mode_check() - are the knobs as @mode wants them. Return: 0; -EIO naming those that are not; -errno. */
int mode_check(struct knobs *knobs, enum cc_mode mode, struct err *err);

#endif
