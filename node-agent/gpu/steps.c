/* The steps of worker.h, one function each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/bind.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/modules.h"
#include "node-agent/gpu/pci_state.h"
#include "node-agent/gpu/reset.h"
#include "node-agent/gpu/sysfs.h"
#include "node-agent/gpu/users.h"
#include "node-agent/gpu/work.h"

#define VERIFY_LIMIT_US 1000000 /* a kernel that returned from the reset before it took place */

static int parse_mode(const char *text, enum cc_mode *ret, struct err *err)
{
    *ret = cc_mode_parse(text);
    if (*ret == CC_MODE_UNKNOWN)
        return err_set(err, EINVAL, "'%.40s' is none of the modes off, on, devtools, ppcie", text);
    return 0;
}

static int step_query(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument;
    return work_query(work, a, err);
}

static int step_knobs(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument;
    int r = work_open_to_read(work, err);
    if (r == 0 && work->chip->mailbox == MAILBOX_NONE)
        r = err_set(err, EOPNOTSUPP, "this device has no knobs");
    if (r < 0)
        return r;
    knobs_forget(&work->knobs);
    answer_open(a, "knobs", '[');
    for (unsigned id = 1; id <= KNOB_LAST && r == 0; id++) {
        uint16_t value;
        struct err why = ERR_INIT;
        int k = knobs_read(&work->knobs, id, &value, &why);
        answer_open(a, NULL, '{');
        answer_number(a, "id", id);
        answer_text(a, "name", knob_name(id));
        if (k == 0)
            answer_number(a, "value", value);
        else
            answer_null(a, "value");
        answer_number(a, "status", k == -EREMOTEIO ? why.device_status : 0);
        answer_close(a, '}');
        if (k < 0 && k != -EREMOTEIO) {
            *err = why;
            r = k;
        }
    }
    answer_close(a, ']');
    return r;
}

static int step_wake(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument, (void)a;
    return work_open(work, err);
}

static int step_stage(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    enum cc_mode mode;
    int r = parse_mode(argument, &mode, err);
    if (r == 0)
        r = work_open_mailbox(work, err);
    if (r < 0)
        return r;
    /* an undo comes late: the time of an earlier step, or spent at a barrier, is not this one's */
    knobs_forget(&work->knobs);
    r = mode_stage(&work->knobs, mode, err);
    if (r < 0)
        return r;
    answer_number(a, "writes", r);
    return 0;
}

static int step_check_staged(struct work *work, const char *argument, struct answer *a,
                             struct err *err)
{
    enum cc_mode mode, pending = CC_MODE_UNKNOWN;
    int r = parse_mode(argument, &mode, err);
    if (r == 0)
        r = work_open_mailbox(work, err);
    if (r < 0)
        return r;
    knobs_forget(&work->knobs); /* read back: nothing is taken from memory */
    r = mode_check(&work->knobs, mode, err);
    if (r == 0)
        r = mode_pending(&work->knobs, &pending, err);
    if (r == 0)
        answer_text(a, "pending", cc_mode_name(pending));
    return r;
}

/* Nothing but the hardware below: whoever uses it would have it reset under its feet, the kernel does not care. */
static int refuse_reset(struct work *work, struct err *err)
{
    const struct nv_device *dev = &work->dev;
    if (work->by_vfio)
        return 0; /* nobody but us */
    int r = inventory_read(&work->host, work->target, &work->dev, err);
    if (r == 0 && *dev->driver && !dev->driver_is_vfio) {
        work->cure = "unbind the device first";
        return err_set(err, EBUSY, "not reset: driver %s has it", dev->driver);
    }
    return r < 0 ? r : users_refuse(&work->host, dev, &work->users_seen_us, err);
}

static int step_reset(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    struct err why = ERR_INIT;
    char used[16] = "";
    const char *method = strcmp(argument, "sbr") == 0 ? "bus" : argument;
    if (*method && strcmp(method, "flr") != 0 && strcmp(method, "bus") != 0)
        return err_set(err, EINVAL, "'%.40s' is none of the reset methods flr, sbr", argument);
    int r = work_lock(work, err);
    if (r == 0)
        r = refuse_reset(work, err);
    if (r < 0)
        return r;
    int opened = work_open(work, &why);
    if (opened == -EBUSY || !work->regs) { /* someone was quicker than our look at the users */
        *err = why;
        return opened;
    }
    bool healthy = opened == 0; /* a reset is also the cure of one that is not */
    if (healthy)
        r = reset_mark(work->regs, work->chip, err);
    if (r < 0)
        return r;
    r = reset_device(&work->host, work->target, work->regs, method, used, err);
    work->priv_ring = false;
    if (healthy)
        knobs_setup(&work->knobs, work->regs, work->chip);
    if (r == 0 && healthy)
        r = reset_check_mark(work->regs, work->chip, err);
    if (r == 0)
        answer_text(a, "method", used);
    return r;
}

static int step_wait_boot(struct work *work, const char *argument, struct answer *a,
                          struct err *err)
{
    (void)argument, (void)a;
    int r = work_open(work, err);
    return r < 0 ? r : chip_wait_boot(work->regs, work->chip, &work->config, err);
}

static int step_verify(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    enum cc_mode mode, active = CC_MODE_UNKNOWN;
    int r = parse_mode(argument, &mode, err);
    if (r == 0)
        r = work_open(work, err);
    int64_t end = r < 0 ? 0 : regs_now_us(work->regs) + VERIFY_LIMIT_US;
    while (r == 0) {
        int64_t now = regs_now_us(work->regs);
        r = chip_wait_boot(work->regs, work->chip, &work->config, err);
        if (r == 0)
            r = chip_read_mode(work->regs, work->chip, &active, err);
        if (r < 0 || active == mode)
            break;
        if (now >= end)
            r = err_set(err, EIO, "the mode after the reset is %s, not %s", cc_mode_name(active),
                        cc_mode_name(mode));
        else
            regs_pause_us(work->regs, 20000);
    }
    if (r == 0)
        answer_text(a, "active", cc_mode_name(active));
    return r;
}

static int open_as_a_vm(struct work *work, struct answer *a, struct err *err)
{
    struct regs *regs = NULL;
    uint32_t id = 0;
    struct nv_device dev = work->dev;
    if (*dev.cdev)
        dev.group_node = false; /* the node that is given to pods */
    int r = regs_open_vfio(&work->host, &dev, &regs, err);
    if (r == -ENODEV || r == -EADDRINUSE)
        return r;
    struct err who = ERR_INIT;
    int64_t never = 0;
    if (r == -EBUSY && users_refuse(&work->host, &work->dev, &never, &who) < 0) {
        *err = who;
        return -err->code;
    }
    answer_bool(a, "opened", r == 0);
    if (r == -EPERM || r == -EACCES) {
        answer_text(a, "why", err->msg);
        return 0;
    }
    if (r < 0) {
        struct err why = *err;
        work->cure = "reset it; if that does not help, remove the device and rescan the bus "
                     "(recovery.rescan: true lets the agent do it), or reboot the node";
        return err_set(err, EIO, "VFIO opens it for nobody any more: %.300s", why.msg);
    }
    r = regs_config_read(regs, 0, 2, &id, err);
    regs_close(regs);
    if (r == 0 && id != work->dev.vendor_id)
        r = err_set(err, ENODEV, "opened through VFIO its configuration space reads 0x%04x", id);
    return r;
}

/* What is wedged in the kernel is so for the next VM too; nothing that is read from outside tells. */
static int step_check_vfio(struct work *work, const char *argument, struct answer *a,
                           struct err *err)
{
    (void)argument;
    int r = work_lock(work, err);
    work_close(work);
    if (r == 0)
        r = inventory_read(&work->host, work->target, &work->dev, err);
    if (r == 0 && !work->dev.driver_is_vfio)
        r = err_set(err, EBUSY, "it is bound to %s, not to VFIO",
                    *work->dev.driver ? work->dev.driver : "no driver");
    if (r == 0)
        r = users_refuse(&work->host, &work->dev, &work->users_seen_us, err);
    return r < 0 ? r : open_as_a_vm(work, a, err);
}

static int step_sleep(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument, (void)a;
    work_close(work); /* nothing is read from a device that may fall asleep */
    return power_release(&work->power, &work->host, err);
}

/* Before drivers change: they set power/control themselves, and a VFIO open would take our mapping away. */
static int before_binding(struct work *work, struct err *err)
{
    int r = work_lock(work, err);
    work_close(work);
    power_forget(&work->power, &work->host, work->target);
    return r;
}

static int step_unbind(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument;
    int r = before_binding(work, err);
    if (r == 0)
        r = bind_unbind(&work->host, work->target, &work->dev, &work->users_seen_us, err);
    if (r == 0)
        answer_text(a, "driver", work->dev.driver);
    return r;
}

static void write_binding(const struct binding_result *result, struct answer *a)
{
    answer_text(a, "driver", result->driver);
    answer_number(a, "group", result->group);
    answer_text(a, "cdev", result->cdev);
}

static int step_bind(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    struct binding_result result = {0};
    int r = before_binding(work, err);
    if (r == 0)
        r = bind_driver(&work->host, work->target, &work->dev, *argument ? argument : "auto",
                        work->load_modules, &work->users_seen_us, &result, err);
    if (r == 0)
        write_binding(&result, a);
    return r;
}

static int step_release(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    struct binding_result result = {0};
    int r = before_binding(work, err);
    if (r == 0)
        r = bind_release(&work->host, work->target, &work->dev, argument, &work->users_seen_us,
                         &result, err);
    if (r == 0)
        answer_text(a, "driver", result.driver);
    return r;
}

static int step_remove(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    char path[64];
    (void)argument, (void)a;
    int r = before_binding(work, err);
    if (r == 0)
        r = inventory_read(&work->host, work->target, &work->dev, err);
    if (r == 0)
        r = users_refuse(&work->host, &work->dev, &work->users_seen_us, err);
    (void)snprintf(path, sizeof path, SYS_PCI_DEVICES "/%.12s", work->target);
    AUTO_CLOSE int fd = r < 0 ? -1 : host_open_dir(&work->host, path, err);
    if (fd < 0)
        return r < 0 ? r : fd;
    return fs_write_attr(fd, "remove", "1", err);
}

/* ---- steps of the node ---- */

static int step_holders(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument;
    struct nv_inventory *inventory = xcalloc(1, sizeof *inventory);
    struct users *users = xcalloc(1, sizeof *users);
    int r = inventory_scan(&work->host, NULL, inventory, err);
    if (r == 0)
        r = users_scan(&work->host, inventory->devices, inventory->n, users, err);
    if (r == 0)
        answer_open(a, "holders", '[');
    for (size_t i = 0; r == 0 && i < users->n; i++) {
        answer_open(a, NULL, '{');
        answer_text(a, "bdf", users->list[i].bdf);
        answer_number(a, "pid", users->list[i].holder.pid);
        answer_text(a, "comm", users->list[i].holder.comm);
        answer_text(a, "what", users->list[i].holder.what);
        answer_close(a, '}');
    }
    if (r == 0)
        answer_close(a, ']');
    free(users);
    free(inventory);
    return r;
}

static int step_load_module(struct work *work, const char *argument, struct answer *a,
                            struct err *err)
{
    int r = modules_load(&work->host, argument, err);
    if (r >= 0)
        answer_bool(a, "loaded", r == 1);
    if (r == -ENOENT || r == -EIO)
        work->cure = "load the module on the host, or add it to /etc/modules-load.d";
    return r < 0 ? r : 0;
}

static int step_rescan(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument, (void)a;
    AUTO_CLOSE int fd = host_open_dir(&work->host, "/sys/bus/pci", err);
    return fd < 0 ? fd : fs_write_attr(fd, "rescan", "1", err);
}

static void answer_known(struct answer *a, const char *key, int64_t value)
{
    if (value >= 0)
        answer_number(a, key, value);
}

static int step_pci(struct work *work, const char *argument, struct answer *a, struct err *err)
{
    (void)argument;
    AUTO_FREE struct nv_inventory *inventory = xcalloc(1, sizeof *inventory);
    int r = inventory_scan(&work->host, NULL, inventory, err);
    if (r < 0)
        return r;
    answer_open(a, "devices", '[');
    for (size_t i = 0; i < inventory->n; i++) {
        struct pci_state state;
        pci_state_read(&work->host, inventory->devices[i].bdf, &state);
        answer_open(a, NULL, '{');
        answer_text(a, "bdf", inventory->devices[i].bdf);
        if (*state.power)
            answer_text(a, "power", state.power);
        answer_known(a, "speed", state.speed);
        answer_known(a, "max_speed", state.max_speed);
        answer_known(a, "width", state.width);
        answer_known(a, "max_width", state.max_width);
        answer_known(a, "correctable", state.correctable);
        answer_known(a, "nonfatal", state.nonfatal);
        answer_known(a, "fatal", state.fatal);
        answer_close(a, '}');
    }
    answer_close(a, ']');
    return 0;
}

static const struct {
    int (*run)(struct work *work, const char *argument, struct answer *a, struct err *err);
    bool node, argument;
} steps[WORKER_STEP_MAX] = {
    [WORKER_QUERY] = {.run = step_query},
    [WORKER_KNOBS] = {.run = step_knobs},
    [WORKER_WAKE] = {.run = step_wake},
    [WORKER_STAGE] = {.run = step_stage, .argument = true},
    [WORKER_CHECK_STAGED] = {.run = step_check_staged, .argument = true},
    [WORKER_RESET] = {.run = step_reset, .argument = true},
    [WORKER_WAIT_BOOT] = {.run = step_wait_boot},
    [WORKER_VERIFY] = {.run = step_verify, .argument = true},
    [WORKER_CHECK_VFIO] = {.run = step_check_vfio},
    [WORKER_SLEEP] = {.run = step_sleep},
    [WORKER_UNBIND] = {.run = step_unbind},
    [WORKER_BIND] = {.run = step_bind, .argument = true},
    [WORKER_RELEASE] = {.run = step_release, .argument = true},
    [WORKER_REMOVE] = {.run = step_remove},
    [WORKER_HOLDERS] = {.run = step_holders, .node = true},
    [WORKER_LOAD_MODULE] = {.run = step_load_module, .node = true, .argument = true},
    [WORKER_RESCAN] = {.run = step_rescan, .node = true},
    [WORKER_PCI] = {.run = step_pci, .node = true},
};

int work_step(struct work *work, enum worker_step step, const char *argument, struct answer *answer,
              struct err *err)
{
    bool node = strcmp(work->target, WORKER_NODE) == 0 || strcmp(work->target, WORKER_BUS) == 0;
    work->cure = NULL;
    work->locked = false;
    if (step >= WORKER_STEP_MAX)
        return err_set(err, EINVAL, "unknown step");
    /* in a chain that changes the mode the device was unbound for the change */
    work->may_bind = step == WORKER_WAKE || step == WORKER_STAGE;
    if (steps[step].node != node)
        return err_set(err, EINVAL, "%s is a step of %s", worker_step_name(step),
                       node ? "a device, this worker is for the node"
                            : "the node, this worker is for a device");
    if (*argument && !steps[step].argument)
        return err_set(err, EINVAL, "%s takes no argument", worker_step_name(step));
    int r = steps[step].run(work, argument, answer, err);
    if (r == -EBUSY && work->open) { /* the mapping was taken away while we worked */
        work_close(work);
        return users_name(&work->host, &work->dev, err);
    }
    return r;
}
