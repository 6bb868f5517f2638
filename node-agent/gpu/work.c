#include "node-agent/gpu/work.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "node-agent/gpu/bind.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/users.h"

/* Hopper's privileged register ring; NVIDIA's tool sets it up before it talks to the FSP and after every reset. */
enum {
    PRIV_RING_COMMAND = 0x12004c,
    PRIV_RING_INIT = 0x4,
    PRIV_RING_GLOBAL = 0x122204,
    PRIV_RING_2 = 0x2
};

/* EPERM of mmap is lockdown, or somebody else's rule (seen in a virtual machine with a GPU passed through: lockdown off,
 * and all the same). Only the kernel's own word counts. */
static const char *refusal(const struct host *host, const char **ret_cure)
{
    char lockdown[sizeof((struct host_facts *)0)->lockdown];
    host_lockdown(host, lockdown, sizeof lockdown);
    if (*lockdown && strcmp(lockdown, "none") != 0) {
        *ret_cure = "bind the device to vfio-pci (ccnode bind), or boot without lockdown";
        return "resource0 can't be mapped: forbidden by kernel lockdown (Secure Boot)";
    }
    *ret_cure = "run ccnode on the host itself, outside of sandbox and container, or bind the "
                "device to vfio-pci (ccnode bind); a security module's refusal is in the audit log";
    return "resource0 can't be mapped: not permitted although kernel lockdown is off (a sandbox "
           "such as gVisor, a virtual machine's host or a security module forbids it)";
}

int work_lock(struct work *work, struct err *err)
{
    work->power.dir = work->lock_dir;
    if (work->lock_fd >= 0)
        return 0;
    int fd = lock_take(&work->host, work->lock_dir, work->target, err);
    work->locked = fd == -EBUSY;
    if (work->locked) {
        work->lock_pid = lock_holder(&work->host, work->lock_dir, work->target);
        work->cure = "wait until that process ends; one that is stuck in the kernel keeps the "
                     "device until it comes back or the node is rebooted";
    }
    if (fd < 0)
        return fd;
    work->lock_fd = fd;
    return 0;
}

void work_close(struct work *work)
{
    regs_close(work->regs);
    work->regs = NULL;
    work->open = false;
    work->has_chip = false;
    work->priv_ring = false;
    work->by_vfio = false;
}

/* From configuration space to a chip with a name. */
static int identify(struct work *work, struct err *err)
{
    struct regs *regs = work->regs;
    int r = chip_read_config(regs, &work->config, err);
    if (r == 0)
        r = chip_wake(regs, &work->config, err);
    if (r == 0)
        r = chip_wait_firewall(regs, &work->config, err);
    if (r == 0)
        r = chip_identify(regs, &work->config, work->dev.chip, &work->chip, err);
    if (r == 0)
        r = chip_check_recovery(regs, work->chip, err);
    return r;
}

/* Reading must not get in the way of a VM that is about to start, so the group of a device on VFIO is not tried. One
 * without driver whose group node is still there may be in an unbind that waits for its user: whoever touches its
 * power/control or reset then waits too, unkillable (REF-L 6.8). */
static int refuse_held(struct work *work, struct err *err)
{
    const struct nv_device *dev = &work->dev;
    if (dev->driver_is_vfio && inventory_is_enabled(&work->host, dev->bdf)) {
        (void)err_set(err, EBUSY, "someone has it open through VFIO");
        return users_name(&work->host, dev, err);
    }
    if (*dev->driver)
        return 0;
    int64_t quick = mmio_now_us(); /* who only reads does not search /proc */
    return users_refuse(&work->host, dev, work->may_bind ? &work->users_seen_us : &quick, err);
}

/* Kernel lockdown forbids the mapping of resource0, not VFIO (REF-L 6.3). Opening resets the device; one that a chain
 * of ours has unbound is bound for that, a host driver's is never taken away. */
static int open_by_vfio(struct work *work, struct err *err)
{
    struct err why = ERR_INIT;
    struct binding_result ignored;
    int r = 0;
    const char *cure, *refused = refusal(&work->host, &cure);
    work_close(work);
    if (*work->dev.driver == '\0' && work->may_bind) {
        power_forget(&work->power, &work->host, work->target);
        r = bind_driver(&work->host, work->target, &work->dev, "auto", work->load_modules,
                        &work->users_seen_us, &ignored, &why);
        if (r == 0)
            r = inventory_read(&work->host, work->target, &work->dev, &why);
        if (r < 0)
            return err_set(err, EPERM, "%s; through VFIO: %.300s", refused, why.msg);
    }
    if (!work->dev.driver_is_vfio) {
        work->cure = cure;
        return err_set(err, EPERM, "%s, and it is not on VFIO", refused);
    }
    r = regs_open_vfio(&work->host, &work->dev, &work->regs, err);
    work->by_vfio = r == 0;
    if (r == -EPERM)
        work->cure = "in the chart: security.privileged: true; elsewhere run ccnode outside of "
                     "the container";
    return r < 0 ? r : identify(work, err);
}

int work_open(struct work *work, struct err *err)
{
    if (work->open)
        return 0;
    work_close(work);
    int r = work_lock(work, err);
    if (r == 0)
        r = inventory_read(&work->host, work->target, &work->dev, err);
    if (r == 0)
        r = refuse_held(work, err);
    if (r == 0)
        r = power_hold(&work->power, &work->host, work->target, err);
    if (r == 0)
        r = regs_open_sysfs(&work->host, work->target, &work->regs, err);
    if (r == 0)
        r = identify(work, err);
    if (r == -EPERM)
        r = open_by_vfio(work, err);
    if (r == -EBUSY && !work->locked) /* the mapping was refused or revoked: VFIO has it */
        return users_name(&work->host, &work->dev, err);
    if (r < 0)
        return r;
    knobs_setup(&work->knobs, work->regs, work->chip);
    work->has_chip = true;
    work->open = true;
    return 0;
}

int work_open_to_read(struct work *work, struct err *err)
{
    struct err why = ERR_INIT;
    int r = work_open(work, err);
    if (r == 0)
        r = chip_wait_boot(work->regs, work->chip, &work->config, err);
    if (r == 0 && work->chip->family == CHIP_HOPPER && fsp_emem_look(work->regs, &why) == -EIO)
        r = work_open_mailbox(work, err);
    return r;
}

int work_open_mailbox(struct work *work, struct err *err)
{
    int r = work_open(work, err);
    if (r == 0)
        r = chip_wait_boot(work->regs, work->chip, &work->config, err);
    if (r < 0 || work->chip->family != CHIP_HOPPER || work->priv_ring)
        return r;
    r = regs_write(work->regs, PRIV_RING_COMMAND, PRIV_RING_INIT, err);
    if (r == 0)
        r = regs_write(work->regs, PRIV_RING_GLOBAL, PRIV_RING_2, err);
    work->priv_ring = r == 0;
    return r;
}

void work_end(struct work *work)
{
    struct err ignored = ERR_INIT;
    work_close(work);
    (void)power_release(&work->power, &work->host, &ignored);
    if (work->lock_fd >= 0)
        (void)close(work->lock_fd);
    work->lock_fd = -1;
    host_close(&work->host);
}

const char *work_cure(const struct work *work, const struct err *err)
{
    if (work->cure)
        return work->cure;
    switch (err->code) {
    case EBUSY:
        return "stop the pod, VM or process that uses it, or wait until it ends";
    case EPERM:
        return "kernel lockdown (Secure Boot) forbids it; boot without lockdown to change the mode";
    case EACCES:
        return "allow in-band changes of CC mode through the management controller (BMC), or run "
               "with the "
               "capabilities the documentation lists";
    case EREMOTEIO:
        return err->device_status == KNOB_STATUS_UNKNOWN
                   ? "update the firmware of the GPU or HGX board"
                   : "reset the device; if it stays so, power the host off and on";
    case EBADMSG:
    case ETIMEDOUT:
        return "make sure that no VM or other tool uses the device, reset it; if it stays so, "
               "power the host off "
               "and on";
    case ENOTRECOVERABLE:
        return "reset the device; if it stays so, power the host off and on, then update or "
               "re-flash its firmware";
    case ENXIO:
        return "switch the IOMMU on in the firmware and with intel_iommu=on (Intel) on the kernel "
               "command line";
    case EEXIST:
        return "take its id out of vfio-pci's ids= (modprobe.d, kernel command line; for now: "
               "write "
               "\"vendor device\" to /sys/bus/pci/drivers/vfio-pci/remove_id)";
    case EADDRINUSE:
        return "unbind the other function from its driver, or move the card to a slot with a group "
               "of its own";
    case ENOTTY:
        return "look into the kernel log; remove the device and rescan the bus, or power the host "
               "off and on";
    case ENODEV:
        return "look into the kernel log for PCIe errors; remove the device and rescan the bus, or "
               "power the host "
               "off and on";
    default:
        return NULL;
    }
}
