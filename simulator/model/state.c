/* The state file: its lock, its clock, its trace. */
#include "simulator/model/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"

#define NS_PER_MS 1000000

/* FLR 100 ms is Linux's; the others are estimates (one GH200 log: 1785 ms from reset to verified) */
static const uint32_t default_delays[MODEL_DELAYS] = {
    [MODEL_DELAY_FLR] = 100,         [MODEL_DELAY_BOOT] = 1500,
    [MODEL_DELAY_BOOT_CC] = 1700,    [MODEL_DELAY_BOOT_BLACKWELL] = 1700,
    [MODEL_DELAY_BOOT_GB20X] = 1000, [MODEL_DELAY_BOOT_SWITCH] = 1500,
    [MODEL_DELAY_FIREWALL] = 400,    [MODEL_DELAY_RPC] = 2,
};

static int map_state(int fd, struct model **ret, struct err *err)
{
    void *p = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, "map the simulator's state");
    struct model *m = xcalloc(1, sizeof *m);
    m->s = p;
    *ret = m;
    return 0;
}

int model_create(const char *path, struct model **ret, struct err *err)
{
    AUTO_CLOSE int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)
                             : memfd_create("ccnode-sim", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)sizeof(struct state)) < 0)
        return err_errno(err, "create %s", path ? path : "the simulator's state");
    int r = map_state(fd, ret, err);
    if (r < 0)
        return r;
    struct state *s = (*ret)->s;
    s->version = STATE_VERSION;
    s->size = (uint32_t)sizeof *s;
    s->scale = 1.0;
    memcpy(s->delays, default_delays, sizeof s->delays);
    s->next_base64 =
        0x200000000000ull; /* where a host bridge puts its 64-bit window: any place will do */
    s->next_base32 = 0x90000000ull;
    s->magic = STATE_MAGIC;
    return 0;
}

int model_open(const char *path, struct model **ret, struct err *err)
{
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, "open %s", path);
    if (st.st_size != (off_t)sizeof(struct state))
        return err_set(err, EBADMSG,
                       "%s is not a state file of this ccnode-sim: start the node again", path);
    struct model *m = NULL;
    int r = map_state(fd, &m, err);
    if (r < 0)
        return r;
    if (m->s->magic != STATE_MAGIC || m->s->version != STATE_VERSION ||
        m->s->size != sizeof(struct state) || m->s->count < 0 || m->s->count > MODEL_MAX_DEVICES) {
        model_close(m);
        return err_set(err, EBADMSG,
                       "%s is not a state file of this ccnode-sim: start the node again", path);
    }
    *ret = m;
    return 0;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    (void)munmap(m->s, sizeof *m->s);
    free(m);
}

/* --- lock ------------------------------------------------------------------------------------------------------ */

static bool thread_dead(int tid)
{
    return kill(tid, 0) < 0 && errno == ESRCH;
}

/* A critical section takes microseconds. Who waits longer finds out whether the owner still lives; a stopped owner
 * is waited for. The state survives: a killed owner leaves at worst one half-done register access. */
void lock(struct model *m)
{
    int me = (int)syscall(SYS_gettid), saved_errno = errno;
    for (unsigned tries = 0;; tries++) {
        int owner = 0;
        if (__atomic_compare_exchange_n(&m->s->lock_owner, &owner, me, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            break;
        if (tries < 100)
            continue;
        if (tries % 64 == 0 && thread_dead(owner)) {
            if (__atomic_compare_exchange_n(&m->s->lock_owner, &owner, me, false, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED))
                break;
        }
        struct timespec pause = {.tv_nsec = 20000};
        if (tries < 164)
            (void)sched_yield();
        else
            (void)nanosleep(&pause, NULL);
    }
    errno = saved_errno;
}

void unlock(struct model *m)
{
    __atomic_store_n(&m->s->lock_owner, 0, __ATOMIC_RELEASE);
}

struct device *device_at(struct model *m, int hw)
{
    return hw >= 0 && hw < m->s->count ? &m->s->devices[hw] : NULL;
}

/* --- time ------------------------------------------------------------------------------------------------------ */

int64_t now_ns(struct state *s)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + s->offset_ns;
}

int64_t due_in(struct state *s, uint32_t ms)
{
    return now_ns(s) + (int64_t)((double)ms * NS_PER_MS * s->scale) + 1;
}

int64_t model_now_ns(struct model *m)
{
    return now_ns(m->s);
}

void model_advance_ns(struct model *m, int64_t ns)
{
    lock(m);
    m->s->offset_ns += ns;
    unlock(m);
}

void model_set_scale(struct model *m, double scale)
{
    lock(m);
    m->s->scale = scale >= 0 && scale <= 1000 ? scale : 1.0;
    unlock(m);
}

int64_t model_scaled_ns(struct model *m, uint32_t ms)
{
    return (int64_t)((double)ms * NS_PER_MS * m->s->scale);
}

static const char *const delay_names[MODEL_DELAYS] = {
    [MODEL_DELAY_FLR] = "flr_ms",
    [MODEL_DELAY_BOOT] = "boot_ms",
    [MODEL_DELAY_BOOT_CC] = "boot_cc_ms",
    [MODEL_DELAY_BOOT_BLACKWELL] = "boot_blackwell_ms",
    [MODEL_DELAY_BOOT_GB20X] = "boot_gb20x_ms",
    [MODEL_DELAY_BOOT_SWITCH] = "boot_switch_ms",
    [MODEL_DELAY_FIREWALL] = "firewall_ms",
    [MODEL_DELAY_RPC] = "rpc_ms",
};

const char *model_delay_name(int d)
{
    return d >= 0 && d < MODEL_DELAYS ? delay_names[d] : NULL;
}

uint32_t model_delay(struct model *m, int d)
{
    return d >= 0 && d < MODEL_DELAYS ? m->s->delays[d] : 0;
}

void model_delay_set(struct model *m, int d, uint32_t ms)
{
    if (d >= 0 && d < MODEL_DELAYS)
        m->s->delays[d] = ms;
}

/* --- trace, lockdown --------------------------------------------------------------------------------------- */

void trace(struct state *s, const struct device *d, char op, unsigned bar, uint32_t offset,
           uint32_t value)
{
    if (!s->tracing)
        return;
    s->trace[s->traced % TRACE_ENTRIES] = (struct model_access){.op = op,
                                                                .bar = (uint8_t)bar,
                                                                .hw = (uint16_t)(d - s->devices),
                                                                .offset = offset,
                                                                .value = value};
    s->traced++;
}

void model_trace(struct model *m, bool on)
{
    lock(m);
    m->s->tracing = on;
    unlock(m);
}

int model_trace_read(struct model *m, uint64_t *cursor, struct model_access *ret, size_t n)
{
    int got = 0;
    lock(m);
    struct state *s = m->s;
    uint64_t oldest = s->traced > TRACE_ENTRIES ? s->traced - TRACE_ENTRIES : 0;
    if (*cursor < oldest) {
        *cursor = oldest;
        unlock(m);
        return -EOVERFLOW;
    }
    while ((size_t)got < n && *cursor < s->traced)
        ret[got++] = s->trace[(*cursor)++ % TRACE_ENTRIES];
    unlock(m);
    return got;
}

int model_lockdown(struct model *m)
{
    return m->s->lockdown;
}

bool model_map_forbidden(struct model *m, int hw)
{
    return m->s->lockdown != MODEL_LOCKDOWN_NONE || model_fault(m, hw, MODEL_FAULT_MAP_DENIED);
}

void model_set_lockdown(struct model *m, int l)
{
    if (l >= MODEL_LOCKDOWN_NONE && l <= MODEL_LOCKDOWN_CONFIDENTIALITY)
        m->s->lockdown = l;
}
