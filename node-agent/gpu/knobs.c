#include "node-agent/gpu/knobs.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

enum {
    NVDM_PRC = 0x13,
    SUB_READ = 0x0c,
    SUB_WRITE = 0x0d,
    FLAG_PERSISTENT = 0x2,
};

const char *knob_name(unsigned id)
{
    static const char *const names[KNOB_LAST + 1] = {
        [5] = "CCD_ALLOW_INB",
        [6] = "CCD",
        [7] = "CCM_ALLOW_INB",
        [8] = "CCM",
        [9] = "BAR0_DECOUPLER_ALLOW_INB",
        [10] = "BAR0_DECOUPLER",
        [35] = "FORCE_RESET_COUPLING_ALLOW_INB",
        [36] = "FORCE_RESET_COUPLING",
        [44] = "PPCIE_ALLOW_INB",
        [45] = "PPCIE",
        [46] = "CECA_ALLOW_INB",
        [47] = "CECA",
    };
    return id < ARRAY_LEN(names) && names[id] ? names[id] : "";
}

void knobs_setup(struct knobs *knobs, struct regs *regs, const struct chip *chip)
{
    *knobs = (struct knobs){0};
    fsp_setup(&knobs->fsp, regs, chip);
    knobs_forget(knobs);
}

void knobs_forget(struct knobs *knobs)
{
    memset(knobs->known, 0, sizeof knobs->known);
    memset(knobs->absent, 0, sizeof knobs->absent);
    fsp_new_session(&knobs->fsp);
}

static int name_error(int r, const char *what, unsigned id, struct err *err)
{
    const char *name = knob_name(id);
    if (r == -EREMOTEIO && err->device_status == KNOB_STATUS_UNKNOWN)
        return err_wrap(err, r, "%s knob %u%s%s%s: this firmware does not have it", what, id,
                        *name ? " (" : "", name, *name ? ")" : "");
    return err_wrap(err, r, "%s knob %u%s%s%s", what, id, *name ? " (" : "", name,
                    *name ? ")" : "");
}

static int ask(struct knobs *knobs, const uint32_t *payload, size_t n, size_t n_answer,
               struct fsp_answer *ret, struct err *err)
{
    int r = fsp_request(&knobs->fsp, NVDM_PRC, payload, n, ret, err);
    if (r == 0 && ret->n != n_answer) {
        knobs->fsp.open = false; /* perhaps the answer to something else */
        r = err_set(err, EBADMSG, "answer with %zu words instead of %zu", ret->n, n_answer);
    }
    return r;
}

int knobs_read(struct knobs *knobs, unsigned id, uint16_t *ret, struct err *err)
{
    uint32_t request = id << 16 | FLAG_PERSISTENT << 8 | SUB_READ;
    struct fsp_answer answer;
    if (knobs->known[id]) {
        *ret = knobs->value[id];
        return 0;
    }
    int r = ask(knobs, &request, 1, 1, &answer, err);
    if (r < 0) {
        knobs->absent[id] = r == -EREMOTEIO && err->device_status == KNOB_STATUS_UNKNOWN;
        return name_error(r, "read", id, err);
    }
    knobs->known[id] = true;
    *ret = knobs->value[id] = (uint16_t)answer.payload[0]; /* the upper half is undefined */
    return 0;
}

int knobs_write(struct knobs *knobs, unsigned id, uint16_t value, struct err *err)
{
    uint32_t request[2] = {id << 16 | FLAG_PERSISTENT << 8 | SUB_WRITE, value};
    struct fsp_answer answer;
    knobs->known[id] = false;
    int r = ask(knobs, request, 2, 0, &answer, err);
    if (r < 0)
        return name_error(r, "write", id, err);
    knobs->known[id] = true;
    knobs->value[id] = value;
    return 0;
}
