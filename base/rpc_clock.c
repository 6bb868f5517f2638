/* gRPC core has two timer lists, each with a thread that looks once a second whether the next window of it holds
 * something (grpc/grpc v1.51 src/core/lib/iomgr/timer_generic.cc and event_engine/posix_engine/timer.cc: a window ends at
 * most one second after it was opened), for ever, on an idle node too. There is no setting for it. But a window whose end
 * is the end of time needs no next one: timers then go straight into the heap, and the thread sleeps until the first of
 * them is due. So each of the two threads is told once, for its first look at the still empty list, that it is the end of
 * time, through the pointer by which gRPC's own tests replace the clock. Nothing else sees that clock: we wait until
 * both have looked and sleep. Timers stay exact. Where a later gRPC has no such pointer, other thread names or is slow,
 * it ticks as before.
 */
#include "base/rpc_clock.h"

#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LISTS 2
#define PATIENCE_STEPS 1000 /* of 100 µs */

extern gpr_timespec (*gpr_now_impl)(gpr_clock_type type) __attribute__((weak));

static gpr_timespec (*real_now)(gpr_clock_type type);
static const char *const thread_names[LISTS] = {"grpc_global_tim", "timer_manager"};
static atomic_bool starting;   /* between grpc_init() and the moment when both sleep */
static atomic_int told[LISTS]; /* id of the thread that has been told; 0 = none */

static bool first_look(void)
{
    char name[16] = "";
    int none = 0;
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0)
        return false;
    for (int i = 0; i < LISTS; i++)
        if (strcmp(name, thread_names[i]) == 0)
            return atomic_compare_exchange_strong(&told[i], &none, gettid());
    return false;
}

static gpr_timespec now(gpr_clock_type type)
{
    if (atomic_load_explicit(&starting, memory_order_relaxed) && first_look())
        return gpr_inf_future(type);
    return real_now(type);
}

/* State of a thread of ours as in proc(5), e.g. 'S'; 0 when it cannot be read. */
static char thread_state(int tid)
{
    char path[48], text[64] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        (void)close(fd);
    const char *end = n > 0 ? strrchr(text, ')') : NULL;
    return end && end[1] ? end[2] : '\0';
}

static bool all_sleep(void)
{
    for (int i = 0; i < LISTS; i++) {
        int tid = atomic_load(&told[i]);
        if (tid == 0 || thread_state(tid) != 'S')
            return false;
    }
    return true;
}

void rpc_clock_begin(void)
{
    if (!&gpr_now_impl || grpc_is_initialized())
        return;
    for (int i = 0; i < LISTS; i++)
        atomic_store(&told[i], 0);
    atomic_store(&starting, true);
    if (gpr_now_impl != now) {
        real_now = gpr_now_impl;
        gpr_now_impl = now;
    }
}

void rpc_clock_settle(void)
{
    const struct timespec step = {.tv_nsec = 100000};
    for (int i = 0; atomic_load(&starting) && i < PATIENCE_STEPS && !all_sleep(); i++)
        (void)nanosleep(&step, NULL);
    atomic_store(&starting, false);
}
