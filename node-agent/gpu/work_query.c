/* The query step: what state the device is in. A device that is broken is an answer. */
#include <errno.h>
#include <stdio.h>

#include "node-agent/gpu/sysfs.h"
#include "node-agent/gpu/work.h"

/* Errors that say something about the device; the others say that it could not be asked. */
static bool is_fault(int r)
{
    return r == -EIO || r == -ENODEV || r == -ETIMEDOUT || r == -EREMOTEIO || r == -EBADMSG ||
           r == -ENOTRECOVERABLE;
}

static int ask_knobs(struct work *work, struct nv_report *report, struct err *err)
{
    knobs_forget(&work->knobs); /* others may have written them since */
    int r = mode_capable(&work->knobs, &report->capable_modes, err);
    return r < 0 ? r : mode_pending(&work->knobs, &report->pending, err);
}

static int ask(struct work *work, struct nv_report *report, struct err *err)
{
    int r = work_open(work, err);
    if (r < 0)
        return r;
    if (work->chip->unlisted) {
        *report = (struct nv_report){.booted = true, .unlisted = true};
        return 0;
    }
    if (work->chip->family == CHIP_PLAIN) {
        *report = (struct nv_report){.active = CC_MODE_OFF, .pending = CC_MODE_OFF, .booted = true};
        return 0;
    }
    r = work_open_to_read(work, err);
    if (r < 0)
        return r;
    report->booted = true;
    r = chip_read_mode(work->regs, work->chip, &report->active, err);
    return r < 0 ? r : ask_knobs(work, report, err);
}

static void write_report(const struct nv_report *report, const char *fault, struct answer *a)
{
    answer_text(a, "active", cc_mode_name(report->active));
    answer_text(a, "pending", cc_mode_name(report->pending));
    answer_open(a, "capable", '[');
    for (enum cc_mode mode = CC_MODE_OFF; mode <= CC_MODE_PPCIE; mode++) {
        if (report->capable_modes & CC_MODE_BIT(mode))
            answer_text(a, NULL, cc_mode_name(mode));
    }
    answer_close(a, ']');
    answer_bool(a, "booted", report->booted);
    answer_bool(a, "unlisted", report->unlisted);
    answer_bool(a, "by_vfio", report->by_vfio);
    answer_text(a, "fault", fault);
}

static bool exists(const struct work *work)
{
    char path[64];
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", work->target);
    return sysfs_exists(&work->host, path);
}

int work_query(struct work *work, struct answer *answer, struct err *err)
{
    struct nv_report report = {0};
    int r = work_open(work, err);
    if (r == 0)
        r = ask(work, &report, err);
    /* whether it exists at all is not a matter of its health */
    if (r == -ENODEV && !exists(work)) {
        work_close(work);
        return err_set(err, ENODEV, "there is no PCI device %s any more", work->target);
    }
    if (r < 0 && !is_fault(r))
        return r;
    report.by_vfio = work->by_vfio;
    if (r < 0)
        work->open = false; /* looked at from the beginning next time */
    write_report(&report, r < 0 ? err->msg : "", answer);
    return 0;
}
