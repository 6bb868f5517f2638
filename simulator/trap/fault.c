/* The fault handler: an access to device memory becomes an access to the model.
 *
 * Handlers are installed and looked up with raw system calls, below AddressSanitizer and whoever else interposes;
 * what the program itself installs for these signals is remembered and called for faults that are not ours. */
#include "simulator/trap/trap.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "simulator/trap/decode.h"

#define PAGE 4096u
#define TRAP_FLAG 0x100u             /* rflags */
#define FAULT_WRITE 0x2u             /* page fault error code: a write */
#define STEP_BYTES 16u               /* the widest operand of an undecodable instruction */
#define KERNEL_RESTORER 0x04000000ul /* Linux arch/x86/include/uapi/asm/signal.h: SA_RESTORER */

/* as the kernel has it, not the C library */
struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static struct sigaction theirs[2]; /* SIGSEGV, SIGTRAP: what the program wants */

static struct sigaction *their_action(int sig)
{
    return sig == SIGSEGV ? &theirs[0] : sig == SIGTRAP ? &theirs[1] : NULL;
}

/* --- accesses ---------------------------------------------------------------------------------------------------- */

static void count_access(void)
{
    enum model_kill who = model_kill_due(trap_model);
    if (who != MODEL_KILL_NONE)
        model_kill(getpid(), who);
}

void device_read(int hw, int bar, uint64_t at, void *ret, unsigned n)
{
    uint64_t first = at & ~3ull, last = (at + n - 1) & ~3ull;
    uint8_t bytes[STEP_BYTES + 8];
    for (uint64_t dword = first; dword <= last; dword += 4) {
        count_access();
        uint32_t v = model_bar_read(trap_model, hw, bar, dword);
        memcpy(bytes + (dword - first), &v, 4);
    }
    memcpy(ret, bytes + (at - first), n);
}

/* Bytes and words: the model has only dwords, so the rest is read first. */
void device_write(int hw, int bar, uint64_t at, const void *p, unsigned n)
{
    const uint8_t *bytes = p;
    for (unsigned done = 0; done < n;) {
        unsigned skip = (at + done) & 3, chunk = 4 - skip < n - done ? 4 - skip : n - done;
        uint64_t dword = (at + done) & ~3ull;
        count_access();
        uint32_t v = chunk == 4 ? 0 : model_bar_read(trap_model, hw, bar, dword);
        memcpy((uint8_t *)&v + skip, bytes + done, chunk);
        model_bar_write(trap_model, hw, bar, dword, v);
        done += chunk;
    }
}

/* --- decoded ------------------------------------------------------------------------------------------------------ */

static const int register_names[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};

static void run(const struct region *r, const struct insn *in, uint64_t at, greg_t *gregs)
{
    uint64_t regs[16], value = 0, flags = (uint64_t)gregs[REG_EFL];
    for (int i = 0; i < 16; i++)
        regs[i] = (uint64_t)gregs[register_names[i]];
    if (in->kind != INSN_STORE)
        device_read(r->hw, r->bar, at, &value, in->width);
    insn_run(in, regs, &flags, &value);
    if (in->kind == INSN_STORE || in->kind == INSN_ALU_WRITE)
        device_write(r->hw, r->bar, at, &value, in->width);
    for (int i = 0; i < 16; i++)
        gregs[register_names[i]] = (greg_t)regs[i];
    gregs[REG_EFL] = (greg_t)flags;
    gregs[REG_RIP] += in->length;
}

/* --- single step: open the page, let the instruction run on plain memory, close it again --------------------------- */

static int step_lock;
static __thread struct {
    bool active, write;
    struct region region;
    uintptr_t addr, page;
    unsigned width;
} step;

static void step_begin(const struct region *r, uintptr_t addr, greg_t *gregs)
{
    const uint8_t *code = (const uint8_t *)gregs[REG_RIP];
    while (__atomic_exchange_n(&step_lock, 1, __ATOMIC_ACQUIRE))
        (void)sched_yield();
    step.active = true;
    step.write = gregs[REG_ERR] & FAULT_WRITE;
    step.region = *r;
    step.addr = addr;
    step.page = addr & ~(uintptr_t)(PAGE - 1);
    step.width = insn_width(code);
    size_t span = (addr - step.page) + STEP_BYTES > PAGE && step.page + PAGE < r->start + r->length
                      ? 2 * PAGE
                      : PAGE;
    (void)syscall(SYS_mprotect, step.page, span, PROT_READ | PROT_WRITE);
    uint8_t bytes[STEP_BYTES];
    if (!step.write || !insn_stores_only(code)) {
        device_read(r->hw, r->bar, r->offset + (addr - r->start), bytes, step.width);
        memcpy((void *)addr, bytes, step.width);
    }
    gregs[REG_EFL] |= TRAP_FLAG;
}

static void step_end(greg_t *gregs)
{
    const struct region *r = &step.region;
    uint8_t bytes[STEP_BYTES];
    memcpy(bytes, (const void *)step.addr, step.width);
    (void)syscall(SYS_mprotect, step.page,
                  2 * PAGE > r->start + r->length - step.page ? PAGE : 2 * PAGE, PROT_NONE);
    step.active = false;
    gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    __atomic_store_n(&step_lock, 0, __ATOMIC_RELEASE);
    if (step.write)
        device_write(r->hw, r->bar, r->offset + (step.addr - r->start), bytes, step.width);
}

/* --- handlers ------------------------------------------------------------------------------------------------------ */

static void set_action(int sig, const struct kernel_action *action, struct kernel_action *old)
{
    (void)syscall(SYS_rt_sigaction, sig, action, old, sizeof action->mask);
}

/* not ours: to whom the program wanted it to go; by default the instruction is repeated and kills */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    const struct sigaction *a = their_action(sig);
    /* with the mask of the moment: a handler may leave by longjmp, which need not restore it */
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL,
                  sizeof(uint64_t));
    if (a->sa_flags & SA_SIGINFO) {
        a->sa_sigaction(sig, info, context);
        return;
    }
    if (a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN) {
        a->sa_handler(sig);
        return;
    }
    struct kernel_action deadly = {.handler = (void *)SIG_DFL};
    if (sig == SIGTRAP && a->sa_handler == SIG_IGN)
        return;
    set_action(sig, &deadly, NULL);
    if (info->si_code <= 0) /* sent by somebody: nothing would repeat it */
        (void)raise(sig);
}

/* A resource file whose device a VFIO user took, or a VFIO region with memory decoding off. */
static bool revoked(const struct region *r)
{
    if (r->vfio < 0)
        return model_map_generation(trap_model, r->hw) != r->generation;
    return !(model_config_read(trap_model, r->hw, 4, 2) & 2);
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t addr = (uintptr_t)info->si_addr;
    const struct region *r = info->si_code > 0 && trap_model ? region_at(addr) : NULL;
    int saved_errno = errno;
    struct insn in;
    if (!r || r->hole) {
        pass_on(sig, info, context);
        return;
    }
    if (revoked(r))
        region_break(r);
    else if (insn_decode((const uint8_t *)gregs[REG_RIP], &in))
        run(r, &in, r->offset + (addr - r->start), gregs);
    else
        step_begin(r, addr, gregs);
    errno = saved_errno;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
    if (step.active)
        step_end(((ucontext_t *)context)->uc_mcontext.gregs);
    else
        pass_on(sig, info, context);
}

__attribute__((naked)) static void restorer(void)
{
    __asm__("mov %0, %%eax\n\tsyscall" ::"i"(SYS_rt_sigreturn));
}

static void keep_theirs(int sig, const struct kernel_action *old)
{
    struct sigaction *a = their_action(sig);
    *a = (struct sigaction){.sa_flags = (int)(old->flags & ~KERNEL_RESTORER)};
    a->sa_handler = (void (*)(int))old->handler;
}

void faults_install(void)
{
    static const int sigs[] = {SIGSEGV, SIGTRAP};
    for (int i = 0; i < 2; i++) {
        /* everything else waits: nobody may interrupt who holds the model's lock */
        struct kernel_action old = {0},
                             ours = {.handler = (void *)(sigs[i] == SIGSEGV ? on_segv : on_trap),
                                     .flags =
                                         SA_SIGINFO | SA_ONSTACK | SA_NODEFER | KERNEL_RESTORER,
                                     .restorer = (void *)restorer,
                                     .mask = ~(1ull << (SIGSEGV - 1) | 1ull << (SIGTRAP - 1) |
                                               1ull << (SIGBUS - 1))};
        set_action(sigs[i], &ours, &old);
        keep_theirs(sigs[i], &old);
    }
}

/* --- what programs call ----------------------------------------------------------------------------------------------- */

TRAP_EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction *mine = their_action(sig);
    if (!trap_model || !mine)
        return REAL(sigaction)(sig, action, old);
    struct sigaction before = *mine;
    if (action)
        *mine = *action;
    if (old)
        *old = before;
    return 0;
}

TRAP_EXPORT __sighandler_t signal(int sig, __sighandler_t handler)
{
    struct sigaction *mine = their_action(sig);
    if (!trap_model || !mine)
        return REAL(signal)(sig, handler);
    __sighandler_t before = mine->sa_handler;
    *mine = (struct sigaction){.sa_flags = SA_RESTART};
    mine->sa_handler = handler;
    return before;
}

/* A blocked SIGSEGV would kill at the next access. */
static const sigset_t *without_ours(int how, const sigset_t *set, sigset_t *copy)
{
    if (!trap_model || !set || how == SIG_UNBLOCK)
        return set;
    *copy = *set;
    (void)sigdelset(copy, SIGSEGV);
    (void)sigdelset(copy, SIGTRAP);
    return copy;
}

TRAP_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    return REAL(sigprocmask)(how, without_ours(how, set, &copy), old);
}

TRAP_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    return REAL(pthread_sigmask)(how, without_ours(how, set, &copy), old);
}
