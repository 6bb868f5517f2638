/* The device model of the simulated node: what the hardware does, nothing of what Linux does.
 *
 * One shared file (DIR/.sim/state) holds all devices; every front end maps it and links this library, so an access
 * costs no message. Nothing runs in the background: events have due times, each access first carries out what is due.
 * No allocation and no stdio after model_create()/model_open(); every function but these two and model_add() may be
 * called from a signal handler. A small lock in the file serialises processes; a killed owner is detected.
 *
 * Devices are numbers, in the order of model_add(). Times are nanoseconds of CLOCK_MONOTONIC plus an adjustable offset.
 * Sources: PCI Express base specification 7.5 (configuration space), NVIDIA gpu-admin-tools v2025.10.20 and
 * open-gpu-kernel-modules 595.45.04 (registers, FSP messages). What nobody measured is labelled "estimate" in model.c.
 */
#ifndef CCN_SIMULATOR_MODEL_MODEL_H
#define CCN_SIMULATOR_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define MODEL_MAX_DEVICES 192
#define MODEL_KNOBS 48 /* ids 1..47 */
#define MODEL_ONES 0xffffffffu
#define MODEL_UNKNOWN 0xbadf5040u /* what an unknown register reads */

struct model;

struct model_desc {
    char bdf[16];
    uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_device_id;
    uint32_t class_code; /* 24 bits; 0x0604xx is a bridge */
    uint8_t revision;
    int parent;    /* bridge above (device number), -1 = none */
    bool no_ppcie; /* firmware without the PPCIe knobs */
    bool vf;       /* SR-IOV virtual function: ids read all ones, no FSP */
};

/* index is the BAR register number (0..5), as in resourceN; size 0 = none */
struct model_bar {
    uint64_t base, size;
    bool prefetch;
};

enum model_power { MODEL_D0, MODEL_D3HOT, MODEL_D3COLD };
enum model_reset_kind { MODEL_RESET_FLR, MODEL_RESET_SBR };
enum model_lockdown {
    MODEL_LOCKDOWN_NONE,
    MODEL_LOCKDOWN_INTEGRITY,
    MODEL_LOCKDOWN_CONFIDENTIALITY
};
/* MODEL_MODE_INVALID: devtools bit without the CC bit */
enum model_mode {
    MODEL_MODE_OFF,
    MODEL_MODE_ON,
    MODEL_MODE_INVALID,
    MODEL_MODE_DEVTOOLS,
    MODEL_MODE_PPCIE
};

enum model_delay {
    MODEL_DELAY_FLR,
    MODEL_DELAY_BOOT,
    MODEL_DELAY_BOOT_CC,
    MODEL_DELAY_BOOT_BLACKWELL,
    MODEL_DELAY_BOOT_GB20X,
    MODEL_DELAY_BOOT_SWITCH,
    MODEL_DELAY_FIREWALL,
    MODEL_DELAY_RPC,
    MODEL_DELAYS
};

/* Per device; 0 = off. Text and meaning of the value: model_fault_help(). The last group is carried out by the
 * simulated kernel, the model only keeps the value. */
enum model_fault {
    MODEL_FAULT_FSP_ERROR,
    MODEL_FAULT_FSP_ERROR_ALWAYS,
    MODEL_FAULT_FSP_MUTE,
    MODEL_FAULT_FSP_SLOW,
    MODEL_FAULT_STALE_ANSWER,
    MODEL_FAULT_STALE_COMMAND,
    MODEL_FAULT_SHORT_ANSWER,
    MODEL_FAULT_WRONG_TYPE,
    MODEL_FAULT_WRONG_ECHO,
    MODEL_FAULT_TORN_QUEUE,
    MODEL_FAULT_WRITE_LOST,
    MODEL_FAULT_PPCIE_INVALID,
    MODEL_FAULT_INBAND_OFF,
    MODEL_FAULT_MNOC_ERROR,
    MODEL_FAULT_MNOC_NO_CREDIT,
    MODEL_FAULT_BOOT_NEVER,
    MODEL_FAULT_BOOT_SLOW,
    MODEL_FAULT_BOOT_BADF,
    MODEL_FAULT_FIREWALL_NEVER,
    MODEL_FAULT_DEAD,
    MODEL_FAULT_MMIO_DEAD,
    MODEL_FAULT_PRIV_ERROR,
    MODEL_FAULT_SECURITY,
    MODEL_FAULT_RECOVERY,
    MODEL_FAULT_RETRY_FOREVER,
    MODEL_FAULT_MODE_LOST,
    MODEL_FAULT_RESET_NOOP,
    MODEL_FAULT_LINK_SPEED,
    MODEL_FAULT_LINK_WIDTH,
    /* carried out by the simulated kernel */
    MODEL_FAULT_RESET_ERROR,
    MODEL_FAULT_RESET_HANGS,
    MODEL_FAULT_RESET_EARLY,
    MODEL_FAULT_UNBIND_BLOCKS,
    MODEL_FAULT_D3COLD_STUCK,
    MODEL_FAULT_NO_POWER_CONTROL,
    MODEL_FAULT_MAP_DENIED,
    MODEL_FAULT_PRIV_RING,
    MODEL_FAULT_LINK_SLOW,
    MODEL_FAULT_VFIO_WEDGED,
    MODEL_FAULT_VFIO_DENIED,
    MODEL_FAULT_AER_CORRECTABLE,
    MODEL_FAULT_AER_NONFATAL,
    MODEL_FAULT_AER_FATAL,
    MODEL_FAULTS
};

struct model_counters {
    uint64_t reads, writes, config_reads, config_writes, resets, flr, sbr, rpcs, unknown;
    uint32_t last_unknown; /* BAR0 offset */
};

struct model_access {
    char op; /* 'R' 'W' of a BAR, 'r' 'w' of configuration, 'X' reset (offset: model_reset_kind) */
    uint8_t bar;
    uint16_t hw;
    uint32_t offset, value;
};

/* What happened to a device that matters to whoever believes in its mode. Modes: enum model_mode. */
struct model_event {
    uint64_t number;   /* 1, 2, … over all devices */
    int64_t time_ns;   /* CLOCK_REALTIME, to be compared with what other programs logged */
    int64_t booted_ns; /* when it has booted after a reset, if no fault is in the way */
    uint16_t hw;
    bool reset; /* else a knob was written, or somebody drifted it */
    uint8_t active, pending;
};

/* Whom a crash point kills: the process that did it, the one that started it, or both as when a container dies. */
enum model_kill { MODEL_KILL_NONE, MODEL_KILL_SELF, MODEL_KILL_PARENT, MODEL_KILL_BOTH };

struct model_saved {
    uint32_t command, line, bars[6];
};

/* model_create() - a new state file (path NULL: anonymous, for tests). Return: 0 or negative; *ret for model_close(). */
int model_create(const char *path, struct model **ret, struct err *err);
/* model_open() - one that exists. -EBADMSG: not a state file of this version. */
int model_open(const char *path, struct model **ret, struct err *err);
void model_close(struct model *m);
/* model_add() - bridges before what is below them. Return: device number, -E2BIG. Booted, mode off, knobs allowed. */
int model_add(struct model *m, const struct model_desc *desc, struct err *err);

int model_count(struct model *m);
int model_find(struct model *m, const char *bdf); /* -1 = none */
const struct model_desc *model_desc(struct model *m, int hw);
struct model_bar model_bar(struct model *m, int hw, int index);

/* n is 1, 2 or 4; unaligned or outside 4096 reads all ones, writes return -EINVAL. */
uint32_t model_config_read(struct model *m, int hw, unsigned at, unsigned n);
int model_config_write(struct model *m, int hw, unsigned at, unsigned n, uint32_t v);
/* aligned 32-bit accesses; BARs other than 0 are plain memory that reads 0 */
uint32_t model_bar_read(struct model *m, int hw, int bar, uint64_t at);
void model_bar_write(struct model *m, int hw, int bar, uint64_t at, uint32_t v);

/* model_reset() - the event itself, does not wait; SBR resets hw and everything beside and below it. */
void model_reset(struct model *m, int hw, int kind);
bool model_config_ready(struct model *m, int hw); /* answers configuration reads again */
/* what Linux keeps over a reset */
void model_config_save(struct model *m, int hw, struct model_saved *s);
void model_config_restore(struct model *m, int hw, const struct model_saved *s);
/* model_set_power() - while a VFIO user has it open, the state it gets when he closes it */
void model_set_power(struct model *m, int hw, enum model_power p);
void model_plug(struct model *m, int hw, bool in);
bool model_dead(struct model *m, int hw); /* unplugged or fault dead */

/* VFIO users. The first open and the last close are FLRs; the first use of a BAR through VFIO
 * claims it: mappings of resource0 are revoked (generation moves) and refused until the last close.
 * Users are counted by process and go when it dies. */
int model_vfio_open(struct model *m, int hw, pid_t pid);
void model_vfio_close(struct model *m, int hw, pid_t pid);
void model_vfio_forget(struct model *m, int hw,
                       pid_t pid); /* all opens of a process, as at its exec */
int model_vfio_opens(struct model *m, int hw);
void model_vfio_claim(struct model *m, int hw); /* as Linux vfio_pci_core_setup_barmap() */
bool model_vfio_claimed(struct model *m, int hw);
/* model_map_forbidden() - mmap of a BAR is EPERM: lockdown, or the fault map-denied */
bool model_map_forbidden(struct model *m, int hw);
/* model_vfio_reset() - VFIO_DEVICE_RESET: an FLR; configuration comes back by itself */
void model_vfio_reset(struct model *m, int hw);
uint32_t model_map_generation(struct model *m, int hw);

int model_knob(struct model *m, int hw, unsigned id); /* -1 = no such knob */
int model_set_knob(struct model *m, int hw, unsigned id, uint16_t v);
enum model_mode model_active(struct model *m, int hw);
/* model_drift() - someone else switched: knobs and active bits at once */
void model_drift(struct model *m, int hw, enum model_mode mode);
const char *model_mode_name(enum model_mode mode);

int model_fault(struct model *m, int hw, int f); /* value */
void model_fault_set(struct model *m, int hw, int f, int value);
const char *model_fault_name(int f); /* "fsp-mute", NULL past the end */
const char *model_fault_help(int f);
int model_fault_by_name(const char *name); /* -1 = none */

int64_t model_now_ns(struct model *m);
void model_advance_ns(struct model *m, int64_t ns);
void model_set_scale(struct model *m, double scale); /* of every delay; 0 = at once */
int64_t model_scaled_ns(struct model *m, uint32_t ms);
uint32_t model_delay(struct model *m, int d); /* ms, unscaled */
void model_delay_set(struct model *m, int d, uint32_t ms);
const char *model_delay_name(int d); /* "flr_ms", NULL past the end */

int model_lockdown(struct model *m);
void model_set_lockdown(struct model *m, int l);
/* model_kill_at() - the trap kills @who at the n-th register access from now; 0 = never */
void model_kill_at(struct model *m, uint64_t n, enum model_kill who);
uint64_t model_kill_left(struct model *m);       /* 0 = struck, or never armed */
enum model_kill model_kill_due(struct model *m); /* counts one access */
/* model_kill() - SIGKILL to @pid, its parent or both; allowed in signal handlers. model_kill_name(): "self", … NULL past the end */
void model_kill(pid_t pid, enum model_kill who);
const char *model_kill_name(int who);

struct model_counters model_counters(struct model *m, int hw);
void model_trace(struct model *m, bool on);
/* model_trace_read() - accesses from *cursor on (start with 0). Return: how many; -EOVERFLOW: ring lapped, *cursor moved. */
int model_trace_read(struct model *m, uint64_t *cursor, struct model_access *ret, size_t n);
/* model_events_read() - those with numbers above *cursor, oldest first; what is too old is left out. Return: how many. */
int model_events_read(struct model *m, uint64_t *cursor, struct model_event *ret, size_t n);

#endif
