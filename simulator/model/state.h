/* What the state file holds, and what the model's own files share. Not for front ends: they use model.h.
 *
 * Everything below is called with the model's lock held, except where it says so. Pointers never go into the file:
 * every process maps it somewhere else.
 */
#ifndef CCN_SIMULATOR_MODEL_STATE_H
#define CCN_SIMULATOR_MODEL_STATE_H

#include "simulator/model/model.h"

#define STATE_MAGIC 0x6d69736e63636eull
#define STATE_VERSION 2u
#define STATE_USERS 8
#define CONFIG_BYTES 4096
#define EMEM_BYTES 8192
#define EMEM_CHANNEL_BYTES 1024
#define CHANNELS 8
#define MNOC_BYTES 4160 /* packet limit of port 0 */
#define ANSWER_DWORDS 8
#define TRACE_ENTRIES 65536u
#define EVENT_ENTRIES 2048u

#define KNOB_CCD_ALLOW 5
#define KNOB_CCD 6
#define KNOB_CCM_ALLOW 7
#define KNOB_CCM 8
#define KNOB_DECOUPLER_ALLOW 9
#define KNOB_DECOUPLER 10
#define KNOB_COUPLING 36
#define KNOB_PPCIE_ALLOW 44
#define KNOB_PPCIE 45

#define MODE_PPCIE_BIT 0x20u /* 0x1182cc bit 5 */

/* Which register set a device has. Bits, so that a register names all kinds that have it. */
enum kind {
    KIND_BRIDGE = 1,
    KIND_OTHER = 2,  /* network card, audio function, virtual function: BARs are plain memory */
    KIND_OLD = 4,    /* GPU before Hopper */
    KIND_HOPPER = 8, /* GH100 */
    KIND_GB10X = 16,
    KIND_GB20X = 32,
    KIND_SWITCH = 64, /* LS10 */
};
#define KIND_BLACKWELL (KIND_GB10X | KIND_GB20X)
#define KIND_EMEM (KIND_HOPPER | KIND_SWITCH)
#define KIND_FSP (KIND_EMEM | KIND_BLACKWELL)
#define KIND_NVIDIA (KIND_OLD | KIND_FSP)

/* What has been received of a message that may come in several packets. Only the start matters to the PRC. */
struct assembly {
    uint32_t words[4]; /* MCTP header, message header, two of payload */
    uint32_t n;        /* dwords so far, headers of later packets not counted */
    uint8_t sequence;
    bool open;
};

struct channel {
    uint32_t cmd_head, cmd_tail, msg_head, msg_tail;
    uint32_t emem_control;
    int64_t take_at, answer_at; /* 0 = nothing due */
    int64_t
        queued; /* how long the command takes that came before the answer to the last; 0 = none */
    uint32_t answer[ANSWER_DWORDS], n_answer;
    int torn; /* pairs of reads still inconsistent */
    struct assembly assembly;
};

struct mnoc {
    uint32_t expected, got; /* bytes announced, bytes written */
    uint32_t words[MNOC_BYTES / 4];
    int64_t answer_at;
    uint32_t answer[ANSWER_DWORDS], n_answer, taken;
    bool ready;
    struct assembly assembly;
};

struct user {
    pid_t pid;
    uint64_t started; /* tells a process from a later one of the same number */
    int opens;
};

struct device {
    struct model_desc desc;
    uint32_t kind; /* enum kind */
    struct model_bar bars[6];
    uint8_t config[CONFIG_BYTES], writable[CONFIG_BYTES], write_clears[CONFIG_BYTES];
    uint16_t cap_pm, cap_pcie, fault_word; /* offsets; 0 = none */
    uint16_t dvsec;

    bool plugged;
    enum model_power power, power_before_open;
    bool held;                               /* in reset for as long as the bridge says so */
    bool coupled;                            /* the next SBR is a fundamental reset */
    bool retrying;                           /* configuration retry that never ends */
    int64_t link_at;                         /* of a Grace superchip to its processor */
    int64_t config_at, boot_at, firewall_at; /* due times; boot_at of a bridge: its link is up */
    bool restore;                            /* put saved back once configuration answers */
    struct model_saved saved;

    uint16_t knobs[MODEL_KNOBS];
    uint8_t noted_active, noted_pending; /* of the last event */
    uint32_t active; /* CCM | CCD << 1 | PPCIE << 5, Blackwell: decoupler << 2 */
    uint32_t scratch_flr, scratch_sbr;
    uint32_t blocked_links;

    struct channel channels[CHANNELS];
    uint8_t emem[EMEM_BYTES];
    struct mnoc mnoc;

    struct user users[STATE_USERS];
    uint32_t generation;
    bool claimed; /* vfio-pci has the BARs */
    int faults[MODEL_FAULTS];
    struct model_counters counters;
};

struct state {
    uint64_t magic;
    uint32_t version, size;
    int lock_owner; /* thread id, 0 = free */
    int count;
    int64_t offset_ns;
    double scale;
    uint32_t delays[MODEL_DELAYS];
    int lockdown;
    uint64_t kill_at; /* accesses left, 0 = never */
    int kill_who;
    uint64_t next_base64, next_base32;
    bool tracing;
    uint64_t traced;
    struct model_access trace[TRACE_ENTRIES];
    uint64_t happened; /* number of the last event */
    struct model_event events[EVENT_ENTRIES];
    struct device devices[MODEL_MAX_DEVICES];
};

struct model {
    struct state *s;
};

/* --- state.c -------------------------------------------------------------------------------------------------- */
void lock(struct model *m);
void unlock(struct model *m);
struct device *device_at(struct model *m, int hw); /* NULL when there is none */
int64_t now_ns(struct state *s);
int64_t due_in(struct state *s, uint32_t ms); /* now plus a scaled delay, never 0 */
/* happened() - a reset, or perhaps a knob written: noted when it is a reset or changed the pending mode */
void happened(struct state *s, const struct device *d, bool reset);
void trace(struct state *s, const struct device *d, char op, unsigned bar, uint32_t offset,
           uint32_t value);
/* process_started() - start time in clock ticks; 0: dead, or a zombie */
uint64_t process_started(pid_t pid);

/* --- config.c ------------------------------------------------------------------------------------------------- */
void config_init(struct state *s, struct device *d);
/* config_link_child() - bus numbers of the bridges above a new device */
void config_link_child(struct state *s, const struct device *child);
uint32_t config_get(const struct device *d, unsigned at, unsigned n);
void config_put(struct device *d, unsigned at, unsigned n, uint32_t v);
void config_reset(struct device *d); /* what a reset clears */
bool config_answers(struct state *s, struct device *d);
bool memory_on(const struct device *d);

/* --- reset.c -------------------------------------------------------------------------------------------------- */
void reset_device(struct state *s, struct device *d, int kind);
void reset_below(struct state *s, int bridge, bool hold); /* everything under a bridge */
void release_below(struct state *s, int bridge);
void latch_mode(struct device *d);
uint32_t mode_of_knobs(const struct device *d); /* what the next reset makes active */
bool device_gone(struct state *s, const struct device *d);
/* settle() - carries out what is due */
void settle(struct state *s, struct device *d);
void put_saved(struct device *d, const struct model_saved *saved);
void take_saved(const struct device *d, struct model_saved *saved);
bool booted(struct state *s, const struct device *d);

/* --- mmio.c, fsp.c, mnoc.c, prc.c ------------------------------------------------------------------------------ */
uint32_t fsp_read(struct state *s, struct device *d, uint32_t at);
void fsp_write(struct state *s, struct device *d, uint32_t at, uint32_t v);
void fsp_settle(struct state *s, struct device *d);
void fsp_reset(struct device *d);
void fsp_plant_answer(struct device *d);  /* an old answer nobody read */
void fsp_plant_command(struct device *d); /* a command nobody took */
uint32_t mnoc_read(struct state *s, struct device *d, uint32_t at);
void mnoc_write(struct state *s, struct device *d, uint32_t at, uint32_t v);
void mnoc_settle(struct state *s, struct device *d);
/**
 * prc_packet() - one packet to the FSP
 * @channel: -1 for MNOC
 * @answer: ANSWER_DWORDS
 * Return: dwords of answer; 0 = none (more packets expected, or garbage).
 */
uint32_t prc_packet(struct device *d, struct assembly *a, int channel, const uint32_t *words,
                    uint32_t n, uint32_t *answer);
/* prc_delay() - when the answer to a command received now is due */
int64_t prc_due(struct state *s, const struct device *d);
int knob_read(const struct device *d, unsigned id); /* -1 = no such knob */
/* fault_take() - a fault that counts down: true when it strikes this time */
bool fault_take(struct device *d, int f);

#endif
