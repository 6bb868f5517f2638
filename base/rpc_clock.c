/* gRPC core has two timer lists, each with a thread that looks once a second whether the next window of it holds
 * something (grpc/grpc v1.51 src/core/lib/iomgr/timer_generic.cc and event_engine/posix_engine/timer.cc: a window ends at
 * most one second after it was opened), for ever, on an idle node too. There is no setting for it. But a window whose end
 * is the end of time needs no next one: timers then go straight into the heap, and the thread sleeps until the first of
 * them is due. So each of the two threads is told once, for its first look at the (still empty) list, that it is the
 * end of time, through the pointer by which gRPC's own tests replace the clock. Timers stay exact; this halves nothing
 * but wake-ups. Where a later gRPC has no such pointer or other thread names, it ticks as before.
 */
#include "base/rpc_clock.h"

#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

extern gpr_timespec (*gpr_now_impl)(gpr_clock_type type) __attribute__((weak));

static gpr_timespec (*real_now)(gpr_clock_type type);
static const char *const thread_names[] = {"grpc_global_tim", "timer_manager"};
static atomic_bool told[2];

static bool first_look(void)
{
    char name[16] = "";
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0)
        return false;
    for (int i = 0; i < 2; i++)
        if (strcmp(name, thread_names[i]) == 0)
            return !atomic_exchange(&told[i], true);
    return false;
}

static gpr_timespec now(gpr_clock_type type)
{
    static _Thread_local bool known;
    if (known)
        return real_now(type);
    known = true;
    return first_look() ? gpr_inf_future(type) : real_now(type);
}

void rpc_clock_calm(void)
{
    if (!&gpr_now_impl)
        return;
    atomic_store(&told[0], false);
    atomic_store(&told[1], false);
    if (gpr_now_impl != now) {
        real_now = gpr_now_impl;
        gpr_now_impl = now;
    }
}
