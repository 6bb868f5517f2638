/* Modes as knobs: which, in what order, with what permission (REF-P 6.3, 6.4). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/knobs.h"

#define MAX_TARGETS 12

struct sequence {
    enum chip_family family;
    enum cc_mode mode;
    struct knob_target targets[8];
};

/* Ends at id 0. "off" clears PPCIe too: NVIDIA's two commands --set-ppcie-mode off, --set-cc-mode off in one. */
static const struct sequence sequences[] = {
    {CHIP_HOPPER, CC_MODE_ON, {{2, 0}, {4, 0}, {34, 0}, {45, 0}, {10, 2}, {8, 1}, {6, 0}}},
    {CHIP_HOPPER, CC_MODE_DEVTOOLS, {{2, 0}, {4, 0}, {34, 0}, {45, 0}, {10, 0}, {8, 1}, {6, 1}}},
    {CHIP_HOPPER, CC_MODE_OFF, {{10, 0}, {45, 0}, {6, 0}, {8, 0}}},
    {CHIP_HOPPER, CC_MODE_PPCIE, {{2, 0}, {4, 0}, {34, 0}, {6, 0}, {8, 0}, {10, 2}, {45, 1}}},
    {CHIP_BLACKWELL, CC_MODE_ON, {{2, 0}, {4, 0}, {34, 0}, {8, 1}, {6, 0}}},
    {CHIP_BLACKWELL, CC_MODE_DEVTOOLS, {{2, 0}, {4, 0}, {34, 0}, {8, 1}, {6, 1}}},
    {CHIP_BLACKWELL, CC_MODE_OFF, {{6, 0}, {8, 0}}},
    {CHIP_LS10, CC_MODE_PPCIE, {{2, 0}, {4, 0}, {34, 0}, {6, 0}, {8, 0}, {10, 0}, {45, 1}}},
    {CHIP_LS10, CC_MODE_OFF, {{10, 0}, {45, 0}}},
};

static const struct sequence *find_sequence(enum chip_family family, enum cc_mode mode)
{
    for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
        if (sequences[i].family == family && sequences[i].mode == mode)
            return &sequences[i];
    }
    return NULL;
}

int mode_targets(const struct chip *chip, enum cc_mode mode, bool with_ppcie,
                 struct knob_target ret[MAX_TARGETS], struct err *err)
{
    const struct sequence *s = find_sequence(chip->family, mode);
    int n = 0;
    if (chip->unlisted)
        return err_set(err, EOPNOTSUPP, "%s", NV_UNLISTED_TEXT);
    if (chip->family == CHIP_PLAIN && mode == CC_MODE_OFF)
        return 0;
    if (!s || (mode == CC_MODE_PPCIE && !with_ppcie))
        return err_set(err, EOPNOTSUPP, "mode %s is not possible on %s", cc_mode_name(mode),
                       *chip->name ? chip->name : "a chip without Confidential Computing");
    for (size_t i = 0; i < ARRAY_LEN(s->targets) && s->targets[i].id; i++) {
        if (s->targets[i].id != KNOB_PPCIE || with_ppcie)
            ret[n++] = s->targets[i];
    }
    return n;
}

/* Knob 45: does the firmware know PPCIe? Blackwell has no such mode and is not asked. */
static int has_ppcie(struct knobs *knobs, bool *ret, struct err *err)
{
    uint16_t v;
    *ret = false;
    if (knobs->fsp.chip->family == CHIP_BLACKWELL || knobs->absent[KNOB_PPCIE])
        return 0;
    int r = knobs_read(knobs, KNOB_PPCIE, &v, err);
    if (r < 0 && knobs->absent[KNOB_PPCIE])
        return 0;
    *ret = r == 0;
    return r;
}

int mode_capable(struct knobs *knobs, unsigned *ret, struct err *err)
{
    const struct chip *chip = knobs->fsp.chip;
    bool ppcie = false;
    uint16_t v;
    unsigned modes = CC_MODE_BIT(CC_MODE_OFF);
    *ret = 0;
    if (chip->family == CHIP_PLAIN)
        return 0;
    int r = has_ppcie(knobs, &ppcie, err);
    if (r == 0 && chip->family != CHIP_LS10) {
        r = knobs_read(knobs, KNOB_CCM, &v, err);
        if (r == 0)
            modes |= CC_MODE_BIT(CC_MODE_ON) | CC_MODE_BIT(CC_MODE_DEVTOOLS);
        else if (knobs->absent[KNOB_CCM])
            r = 0; /* a product of the family that is sold without CC */
    }
    if (ppcie)
        modes |= CC_MODE_BIT(CC_MODE_PPCIE);
    if (r == 0)
        *ret = modes == CC_MODE_BIT(CC_MODE_OFF) ? 0 : modes;
    return r;
}

static enum cc_mode decode(const struct chip *chip, const uint16_t ccm, uint16_t ccd,
                           uint16_t decoupler, uint16_t ppcie)
{
    bool gpu = chip->family == CHIP_HOPPER;
    if (ppcie)
        return !ccm && !ccd && (!gpu || decoupler == 2) ? CC_MODE_PPCIE : CC_MODE_INVALID;
    if (!ccm)
        return ccd ? CC_MODE_INVALID : CC_MODE_OFF;
    if (ccd)
        return CC_MODE_DEVTOOLS;
    /* on, but without the BAR0 filter that belongs to it: somebody else's half of a change */
    return gpu && decoupler != 2 ? CC_MODE_INVALID : CC_MODE_ON;
}

int mode_pending(struct knobs *knobs, enum cc_mode *ret, struct err *err)
{
    const struct chip *chip = knobs->fsp.chip;
    static const unsigned ids[] = {KNOB_CCM, KNOB_CCD, KNOB_DECOUPLER};
    uint16_t v[ARRAY_LEN(ids)] = {0}, ppcie = 0;
    bool known = false;
    int r = chip->family == CHIP_PLAIN ? 0 : has_ppcie(knobs, &known, err);
    if (r == 0 && known)
        r = knobs_read(knobs, KNOB_PPCIE, &ppcie, err);
    /* a switch has no CC, Blackwell's knob 10 is a setting of its own (REF-P 6.5) */
    size_t n = chip->family == CHIP_HOPPER ? 3 : chip->family == CHIP_BLACKWELL ? 2 : 0;
    for (size_t i = 0; i < n && r == 0; i++)
        r = knobs_read(knobs, ids[i], &v[i], err);
    if (r == 0)
        *ret = decode(chip, v[0], v[1], v[2], ppcie);
    return r;
}

/* ---- staging ---- */

struct change {
    uint8_t id;
    uint16_t from, to;
};

static int find_changes(struct knobs *knobs, enum cc_mode mode, struct change ret[MAX_TARGETS],
                        struct err *err)
{
    struct knob_target targets[MAX_TARGETS];
    bool ppcie = false;
    int n = 0, r = 0;
    if (knobs->fsp.chip->family != CHIP_PLAIN)
        r = has_ppcie(knobs, &ppcie, err);
    if (r == 0 && mode == CC_MODE_PPCIE && knobs->absent[KNOB_PPCIE]) {
        r = err_set(err, EREMOTEIO, "knob 45 (PPCIE): this firmware does not have it, status 0x%x",
                    KNOB_STATUS_UNKNOWN);
        err->device_status = KNOB_STATUS_UNKNOWN;
    }
    int n_targets = r < 0 ? r : mode_targets(knobs->fsp.chip, mode, ppcie, targets, err);
    for (int i = 0; i < n_targets && r == 0; i++) {
        uint16_t v;
        r = knobs_read(knobs, targets[i].id, &v, err);
        if (r == 0 && v != targets[i].value)
            ret[n++] = (struct change){targets[i].id, v, targets[i].value};
    }
    return n_targets < 0 ? n_targets : r < 0 ? r : n;
}

/* The permission of a knob stands one id before it; 2, 4 and 34 as well (REF-P 6.1). */
static int is_allowed(struct knobs *knobs, unsigned id, struct err *err)
{
    uint16_t allowed;
    int r = knobs_read(knobs, id - 1, &allowed, err);
    if (r == 0 && allowed == 0)
        r = err_set(err, EACCES,
                    "knob %u (%s) is 0: changing %s from the host is disabled by "
                    "out-of-band policy",
                    id - 1, knob_name(id - 1), knob_name(id));
    return r;
}

/* The knob that makes the mode what it is, if it is to be changed: its permission is asked before anything is
 * written. The others' refusals are put right afterwards, which spares a request each. */
static unsigned deciding_knob(const struct change *changes, int n)
{
    static const uint8_t order[] = {KNOB_PPCIE, KNOB_CCM, KNOB_CCD};
    for (size_t o = 0; o < ARRAY_LEN(order); o++) {
        for (int i = 0; i < n; i++) {
            if (changes[i].id == order[o])
                return order[o];
        }
    }
    return 0;
}

static int put_back(struct knobs *knobs, const struct change *change, struct err *err)
{
    uint16_t v;
    int r = knobs_read(knobs, change->id, &v, err);
    return r < 0 || v == change->from ? r : knobs_write(knobs, change->id, change->from, err);
}

/* Put back what was written before a failure, and find out why a write was refused. Only a refusal says that nothing was
 * written: a write without a good answer may have been carried out, so it is read back. That takes a session of its own,
 * the time of the old one may be what ran out. */
static int undo(struct knobs *knobs, const struct change *changes, int done, int r, struct err *err)
{
    struct err second = ERR_INIT;
    unsigned failed = changes[done].id;
    uint32_t status = err->device_status;
    if (r != -EREMOTEIO)
        fsp_new_session(&knobs->fsp);
    for (int i = r == -EREMOTEIO ? done - 1 : done; i >= 0; i--) {
        if (put_back(knobs, &changes[i], &second) < 0)
            return err_wrap(err, r, "knob %u could not be put back (%.150s) after", changes[i].id,
                            second.msg);
    }
    if (r == -EREMOTEIO && *knob_name(failed) && is_allowed(knobs, failed, &second) == -EACCES) {
        *err = second;
        err->device_status = status;
        return -EACCES;
    }
    return r;
}

int mode_stage(struct knobs *knobs, enum cc_mode mode, struct err *err)
{
    struct change changes[MAX_TARGETS];
    int n = find_changes(knobs, mode, changes, err);
    if (n <= 0)
        return n;
    unsigned deciding = deciding_knob(changes, n);
    int r = deciding ? is_allowed(knobs, deciding, err) : 0;
    for (int i = 0; i < n && r == 0; i++) {
        r = knobs_write(knobs, changes[i].id, changes[i].to, err);
        if (r < 0)
            return undo(knobs, changes, i, r, err);
    }
    return r < 0 ? r : n;
}

int mode_check(struct knobs *knobs, enum cc_mode mode, struct err *err)
{
    struct change changes[MAX_TARGETS];
    char text[160];
    size_t len = 0;
    int n = find_changes(knobs, mode, changes, err);
    if (n <= 0)
        return n;
    for (int i = 0; i < n && len < sizeof text; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%u is %u instead of %u",
                                i ? ", " : "", changes[i].id, changes[i].from, changes[i].to);
    }
    return err_set(err, EIO, "knobs read back differ from what was written: %s", text);
}
