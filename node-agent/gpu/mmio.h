/* Guarded access to a mapped BAR: single moves that the compiler can neither fold nor split (REF-P 11.1), and a named
 * error instead of death by SIGBUS when the kernel takes the mapping away (REF-L 6.2). Inside the room. */
#ifndef CCN_GPU_MMIO_H
#define CCN_GPU_MMIO_H

#include <stdint.h>
#include <time.h>

#include "base/err.h"

/* mmio_read(), mmio_write() - Return: 0; -EBUSY the mapping is dead. The guard is installed by the first call. */
int mmio_read(const void *at, uint32_t *ret, struct err *err);
int mmio_write(void *at, uint32_t v, struct err *err);

/* clock and sleep of real hardware, for the back ends */
int64_t mmio_now_us(void);
void mmio_pause_us(int64_t us);

#endif
