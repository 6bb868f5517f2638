/* The protocol between whoever wants something done to a device and ccnode-device, the only program that touches
 * hardware (design 3.5).
 *
 *   ccnode-device --host-root DIR [--lock-dir DIR] [--no-modprobe] [--users-known] BDF     steps for one device
 *   ccnode-device --host-root DIR node                                     steps for the node
 *   ccnode-device --host-root DIR bus                                      the same; for "pci", which may be stuck in the
 *                                                                          kernel without getting in the way of "holders"
 *
 * --lock-dir is below the host root (default /run/ccnode/lock); with --no-modprobe "bind" loads no missing driver. With
 * --users-known a step that would harm users does not search /proc for them within the first second: the caller just did.
 *
 * The parent writes one step a line on the worker's standard input, "STEP[ ARGUMENT]\n", and the worker answers
 * each with one JSON object on one line of standard output, in order. Steps are straight-line blocking code; the
 * parent keeps the deadlines (worker_deadline_ms()) and abandons a worker that is late: it may sit in the kernel,
 * unkillable, for minutes. At end of input the worker restores power/control, releases the lock and exits 0.
 * Between two steps it sleeps in read(2); so a parent can hold several workers at a barrier (stage on all, then
 * reset all). A failed step does not end the worker.
 *
 * The worker of a device holds an exclusive lock (flock) on <lock-dir>/<bdf> from its first step that touches the
 * device until it exits; the file holds its pid. A second one fails that step with EBUSY naming the pid, and only then the
 * answer has the member "lock_pid" (0: the file does not say).
 *
 * Answer: {"step":"stage","ok":true,"ms":12,…} or
 *         {"step":"stage","ok":false,"ms":12,"code":"EREMOTEIO","device_status":483,
 *          "error":"knob 45 (PPCIE) refused by firmware, status 0x1e3","cure":"update the GPU firmware …"}
 * "device_status" comes only with EREMOTEIO; "cure" may be absent. "code" is the errno name; these have one meaning:
 *   EBUSY in use, by a process that is named where it can be found, or another worker · EOPNOTSUPP not a mode of this
 *   chip · EACCES changing it from the host is disabled by out-of-band policy · EPERM kernel lockdown · EREMOTEIO the
 *   firmware said no (0x1e3: it does not know that knob) · ETIMEDOUT firmware is silent · EBADMSG its answer is broken ·
 *   ENOTRECOVERABLE recovery mode or lockdown after a security fault · ENODEV gone, dead on
 *   the bus, or BAR0 without address · ENXIO no IOMMU group · EEXIST the kernel's own
 *   rules gave it to VFIO again · EADDRINUSE group not viable · ENOTTY reset failed · EIO a register, mode or knob is
 *   not what it should be · EINVAL not a step, mode or name.
 *
 * | step              | does                                                              | extra members of the answer |
 * |-------------------|-------------------------------------------------------------------|------------------------------|
 * | query             | wake, memory enable, firewall and boot wait, read modes and knobs | active pending capable[] booted fault |
 * | knobs             | every product-reconfiguration knob                                | knobs: [{id,name,value|null,status}] |
 * | wake              | power/control on (old value kept), wait for D0, memory enable     | |
 * | stage MODE        | check permissions, then write the knobs that differ, in the safe order | writes: count |
 * | check-staged MODE | read the knobs back and compare                                   | pending |
 * | reset [flr|sbr]   | refuse when held; kernel reset through sysfs "reset", method chosen| method |
 * | wait-boot         | until firmware says boot complete                                 | |
 * | verify MODE       | CC bits and PPCIe bit both as MODE wants                          | active |
 * | check-vfio        | open it as a VM does (character device and iommufd, else group), read its id, close; each resets it. Where this process may not open VFIO nodes (device cgroup of a container) nothing is done | opened, why |
 * | sleep             | put power/control back                                            | |
 * | unbind            | refuse when held; whole IOMMU group; until the driver link is gone| driver: what was bound |
 * | bind DRIVER       | whole group; "auto" = best VFIO variant by modules.alias          | driver, group, cdev |
 * | release [DRIVER]  | back to DRIVER, else to whatever host driver takes it; no driver_override is left | driver |
 * | remove            | sysfs remove of a dead device                                     | |
 * node steps:
 * | holders           | every process that uses an NVIDIA device or its VFIO nodes        | holders: [{bdf,pid,comm,what}] |
 * | load-module NAME  | modprobe below the host root; nothing when built in or loaded     | loaded |
 * | pci               | what sysfs tells of each device's link, errors and power; opens and wakes none | devices: [{bdf,power,speed,max_speed,width,max_width,correctable,nonfatal,fatal}], without what is not known |
 * | rescan            | sysfs rescan of the PCI bus                                       | |
 *
 * query: a broken device is an answer ("fault"), not an error. capable[] is what chip and firmware have; whether policy
 * allows it is found out by stage. A device that is held through VFIO answers query, stage and reset with EBUSY.
 *
 * stage reads everything and asks for the deciding knob's permission before it writes; a write that is refused in spite
 * of that is followed by writing the old values back, so a failed stage leaves the knobs as they were.
 *
 * Under kernel lockdown the registers are reached through VFIO: query of a device on a VFIO driver, and wake or stage of
 * an unbound one, which is bound for it. Opening and closing it that way each reset the device (REF-L 6.5): what is
 * staged becomes active, a query too does that. Steps and answers are the same.
 *
 * Functions of the same slot (audio, USB) are unbound, bound and released along; functions in other slots of the group
 * only count for its viability. Nothing a device or sysfs says is
 * trusted: JSON strings are escaped, values bounded.
 */
#ifndef CCN_GPU_WORKER_H
#define CCN_GPU_WORKER_H

enum worker_step {
    WORKER_QUERY,
    WORKER_KNOBS,
    WORKER_WAKE,
    WORKER_STAGE,
    WORKER_CHECK_STAGED,
    WORKER_RESET,
    WORKER_WAIT_BOOT,
    WORKER_VERIFY,
    WORKER_CHECK_VFIO,
    WORKER_SLEEP,
    WORKER_UNBIND,
    WORKER_BIND,
    WORKER_RELEASE,
    WORKER_REMOVE,
    WORKER_HOLDERS,
    WORKER_LOAD_MODULE,
    WORKER_RESCAN,
    WORKER_PCI,
    WORKER_STEP_MAX,
};

#define WORKER_NODE "node"
#define WORKER_BUS "bus"

const char *worker_step_name(enum worker_step step);
/* worker_step_find() - Return: the step of that name, or WORKER_STEP_MAX. */
enum worker_step worker_step_find(const char *name, unsigned long len);
/* worker_deadline_ms() - how long the parent waits for the answer; derived from the limits of the protocol
 * (boot 30 s + firewall 5 s, kernel FLR ready poll, …), each explained in worker.c. */
int worker_deadline_ms(enum worker_step step);

#endif
