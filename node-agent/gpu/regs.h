/* Registers and configuration space of one device, through a table of operations with three back ends: the sysfs
 * resource0 mapping (regs_sysfs.c), a VFIO region (regs_vfio.c), and the in-process device model of the tests.
 *
 * BAR0 is only ever accessed with aligned 32-bit moves (REF-P 11). A value that is no data is an error with a name:
 *   EIO    0xffffffff or 0xbadfxxxx where the caller did not expect it; the message says which register
 *   EBUSY  the mapping was refused or taken away because someone has the device open through VFIO
 *   EPERM  kernel lockdown forbids the mapping or the write
 *   ENODEV the device is gone
 * One thread only: the SIGBUS guard is process-wide.
 */
#ifndef CCN_GPU_REGS_H
#define CCN_GPU_REGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

struct regs;

struct regs_ops {
    const char *name; /* "resource0", "vfio", … for messages */
    int (*read)(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err);
    int (*write)(struct regs *regs, uint32_t at, uint32_t v, struct err *err);
    /* n is 1, 2 or 4, aligned, below 4096 */
    int (*config_read)(struct regs *regs, unsigned at, unsigned n, uint32_t *ret, struct err *err);
    int (*config_write)(struct regs *regs, unsigned at, unsigned n, uint32_t v, struct err *err);
    int64_t (*now_us)(struct regs *regs); /* monotonic */
    void (*pause_us)(struct regs *regs, int64_t us);
    void (*close)(struct regs *regs); /* frees regs */
};

/* Back ends embed it as their first member. */
struct regs {
    const struct regs_ops *ops;
    uint64_t bar0_size;
};

/* regs_open_sysfs() - configuration space at once; BAR0 is mapped by the first access to it.
 * Return: 0 and *ret for regs_close(); -ENODEV, -EACCES, -errno. */
int regs_open_sysfs(const struct host *host, const char *bdf, struct regs **ret, struct err *err);

/* regs_open_vfio() - through /dev/vfio/<group>, legacy container or, without a group node, /dev/vfio/devices/<cdev>
 * with /dev/iommu. The device must be bound to a VFIO driver and its group viable. Opening and closing each reset the
 * device (REF-L 6.5): a staged mode becomes active by it. Return: 0; -EBUSY someone else has it; -EPERM the nodes may not
 * be opened, as in a container that is not privileged; -errno. */
int regs_open_vfio(const struct host *host, const struct nv_device *dev, struct regs **ret,
                   struct err *err);
void regs_close(struct regs *regs); /* accepts NULL */

/* regs_read() - a register that must answer with data */
int regs_read(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err);
/* regs_read_any() - a register whose value may look like an error (data ports, registers during boot) */
int regs_read_any(struct regs *regs, uint32_t at, uint32_t *ret, struct err *err);
int regs_write(struct regs *regs, uint32_t at, uint32_t v, struct err *err);
int regs_config_read(struct regs *regs, unsigned at, unsigned n, uint32_t *ret, struct err *err);
int regs_config_write(struct regs *regs, unsigned at, unsigned n, uint32_t v, struct err *err);
int64_t regs_now_us(struct regs *regs);
void regs_pause_us(struct regs *regs, int64_t us);

/* regs_bad_value() - why a value is no data: text, or NULL when it may be data */
const char *regs_bad_value(uint32_t v);

#endif
