/* libccnode-sim-trap.so: preloaded into programs that shall find the simulated node's hardware.
 *
 * Mapping a resourceN file of the simulated /sys, or a region of a simulated VFIO device, yields memory without access
 * rights; every access faults, is decoded and carried out on the device model (REF: gpu-simulator sections 3 and 4).
 * The ioctls of the simulated /dev/vfio nodes are answered here too. Everything else passes through.
 *
 * Environment: CCNODE_SIM_STATE is the model's state file; without it the library does nothing. Devices are told by
 * their path in /proc/self/fd and by being on FUSE, so it works with --host-root DIR and below `ccnode-sim exec`.
 *
 * Limits: x86-64; static programs ignore LD_PRELOAD (tracer.h is for them: assert that the model saw accesses); an
 * instruction the decoder does not know opens its page for one step, which other threads could slip through; nothing
 * but this process's own descriptors is known, so a VFIO device passed to another process ends with the first owner.
 */
#ifndef CCN_SIMULATOR_TRAP_TRAP_H
#define CCN_SIMULATOR_TRAP_TRAP_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "simulator/model/model.h"
#include "simulator/trap/identify.h"

#define TRAP_EXPORT __attribute__((visibility("default")))
#define TRAP_REGIONS 256

extern struct model *trap_model; /* NULL: not in a simulated node */

/* --- regions.c: mapped device memory ---------------------------------------------------------------------------- */
struct region {
    uintptr_t start; /* 0 = free; set last, read without lock by the fault handler */
    size_t length;
    uint64_t offset; /* into the BAR */
    int hw, bar;
    uint32_t generation; /* resource files: dead when the device's has moved on */
    int vfio;            /* index of the VFIO device file, -1 = a resource file */
    bool hole;           /* shows SIGBUS at present */
};
const struct region *region_at(uintptr_t addr);
/* region_map() - memory without access rights, entered in the table. Return: address or MAP_FAILED. */
void *region_map(void *addr, size_t length, int flags, const struct region *what);
/* region_break() - accesses raise SIGBUS from now on, as after revocation */
void region_break(const struct region *r);
/* regions_mend() - those of a VFIO device answer again */
void regions_mend(int vfio);
bool regions_of_vfio(int vfio);

/* --- regions.c: which file is this descriptor of this process? ---------------------------------------------------- */
bool identify(int fd, struct file_id *ret);

/* --- vfio.c -------------------------------------------------------------------------------------------------------- */
/* vfio_of_fd() - index of an open VFIO device file. Return: -1 = it is none. */
int vfio_of_fd(int fd);
int vfio_hw(int vfio);
void *vfio_map(int vfio, void *addr, size_t length, int flags, uint64_t offset);
void vfio_unmapped(int vfio); /* a mapping went away: perhaps the last hold on the device */

/* --- fault.c ------------------------------------------------------------------------------------------------------- */
void faults_install(void);
/* device_read(), device_write() - 1 to 16 bytes of a BAR; counts towards model_kill_at() */
void device_read(int hw, int bar, uint64_t at, void *ret, unsigned n);
void device_write(int hw, int bar, uint64_t at, const void *p, unsigned n);

/* the next library's function of that name, looked up once */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&(name)) real_;                                                          \
        if (!real_)                                                                                \
            real_ = (__typeof__(&(name)))real_symbol(#name);                                       \
        real_;                                                                                     \
    })
void *real_symbol(const char *name);

#endif
