/* Resets of a device by the kernel (REF-P 7, REF-L 6.6). Blocking, in the worst case for minutes and unkillable. */
#ifndef CCN_GPU_RESET_H
#define CCN_GPU_RESET_H

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/chip.h"
#include "node-agent/gpu/regs.h"

/* reset_mark() - markers that a reset clears; proof that one took place (REF-P 7.5).
 * Return: 0, also when they can't be written; -EBUSY someone has opened the device: it must not be reset. */
int reset_mark(struct regs *regs, const struct chip *chip, struct err *err);
/* reset_check_mark() - Return: 0 cleared, or this chip has none, or it can't be read yet; -EIO still there after a
 * second: the reset did nothing. */
int reset_check_mark(struct regs *regs, const struct chip *chip, struct err *err);

/**
 * reset_device() - write 1 to the sysfs "reset" attribute
 * @method: "flr", "bus", or "" for what the kernel would choose; a chosen one is put back in reset_method afterwards
 * @ret_method: the method that was used, or "reset" where the kernel does not tell
 * Return: 0; -ENODEV configuration space is dead: a reset would only hang; -EOPNOTSUPP no such method, or all are
 * switched off; -ENOTTY no method worked, or the device did not come back; -errno.
 */
int reset_device(const struct host *host, const char *bdf, struct regs *regs, const char *method,
                 char ret_method[16], struct err *err);

#endif
