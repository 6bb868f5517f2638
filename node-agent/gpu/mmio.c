#include "node-agent/gpu/mmio.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static sigjmp_buf on_bus_error;
static volatile sig_atomic_t inside;

/* A bus error anywhere else is a defect of ours: die as without the guard. */
static void handle(int signo)
{
    if (inside)
        siglongjmp(on_bus_error, 1);
    (void)signal(signo, SIG_DFL);
    (void)raise(signo);
}

static void install(void)
{
    static bool done;
    if (done)
        return;
    /* SA_NODEFER: the jump leaves the handler, so the signal must not stay blocked; saves a system call per access */
    struct sigaction act = {.sa_handler = handle, .sa_flags = SA_NODEFER};
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGBUS, &act, NULL);
    done = true;
}

/* Simulated nodes deliver it from inside their own SIGSEGV handler: open both again. */
static void unblock(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGBUS);
    (void)sigaddset(&set, SIGSEGV);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int revoked(struct err *err)
{
    return err_set(err, EBUSY,
                   "the register mapping was taken away: someone has opened the device through "
                   "VFIO, or it was removed");
}

/* In one function without anything else to keep: nothing of the caller lives across the jump. */
static uint32_t load(const void *at)
{
    uint32_t v;
#if defined(__x86_64__)
    __asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(const volatile uint32_t *)at) : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("ldr %w0, %1" : "=r"(v) : "Q"(*(const volatile uint32_t *)at) : "memory");
#else
#error "no single-move accessor for this architecture"
#endif
    return v;
}

static void store(void *at, uint32_t v)
{
#if defined(__x86_64__)
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)at) : "r"(v) : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("str %w1, %0" : "=Q"(*(volatile uint32_t *)at) : "r"(v) : "memory");
#endif
}

int mmio_read(const void *at, uint32_t *ret, struct err *err)
{
    install();
    if (sigsetjmp(on_bus_error, 0)) { /* NOLINT(cert-err52-cpp): the only way out of a bus error */
        inside = 0;
        unblock();
        return revoked(err);
    }
    inside = 1;
    *ret = load(at);
    inside = 0;
    return 0;
}

int mmio_write(void *at, uint32_t v, struct err *err)
{
    install();
    if (sigsetjmp(on_bus_error, 0)) {
        inside = 0;
        unblock();
        return revoked(err);
    }
    inside = 1;
    store(at, v);
    inside = 0;
    return 0;
}

int64_t mmio_now_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void mmio_pause_us(int64_t us)
{
    struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}
