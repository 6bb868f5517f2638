#include "simulator/trap/tracer.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/trap/decode.h"
#include "simulator/trap/identify.h"

#define TASKS 256
#define REGIONS 512
#define OPTIONS                                                                                    \
    (PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |      \
     PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
#define SYSCALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

/* device memory of one address space */
struct region {
    int space; /* 0 = free */
    uint64_t start, length, offset;
    int hw, bar;
    uint32_t generation;
};

/* a traced thread; threads share an address space, children get a copy of it */
struct task {
    pid_t pid; /* 0 = free */
    int space; /* 0 = its creator's event is still to come */
    bool begun, held;
    struct region mapping; /* what the mmap under way will be; length 0 = none */
};

static struct {
    struct model *model;
    struct task tasks[TASKS];
    struct region regions[REGIONS];
    int last_space;
    pid_t first;
} tracer;

/* --- which programs ------------------------------------------------------------------------------------------------ */

/* an ELF file without an interpreter; scripts have one in another way */
static bool is_static(const char *path)
{
    Elf64_Ehdr header;
    Elf64_Phdr program;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
        return false;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        off_t at = (off_t)(header.e_phoff + (uint64_t)i * header.e_phentsize);
        if (pread(fd, &program, sizeof program, at) != sizeof program ||
            program.p_type == PT_INTERP)
            return false;
    }
    return true;
}

bool tracer_wanted(const char *name)
{
    const char *path = getenv("PATH");
    if (strchr(name, '/') || !path)
        return is_static(name);
    AUTO_FREE char *copy = xstrdup(path);
    char *save = NULL;
    for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        AUTO_FREE char *full = xasprintf("%s/%s", dir, name);
        if (access(full, X_OK) == 0)
            return is_static(full);
    }
    return false;
}

/* --- tasks --------------------------------------------------------------------------------------------------------- */

static struct task *task_of(pid_t pid)
{
    struct task *none = NULL;
    for (int i = 0; i < TASKS; i++) {
        if (tracer.tasks[i].pid == pid)
            return &tracer.tasks[i];
        if (!tracer.tasks[i].pid && !none)
            none = &tracer.tasks[i];
    }
    if (!none) {
        (void)fprintf(stderr, "ccnode-sim: more than %d threads: the program is ended\n", TASKS);
        (void)kill(tracer.first, SIGKILL);
        none = &tracer.tasks[0];
    }
    *none = (struct task){.pid = pid};
    return none;
}

static void drop_space(int space)
{
    for (int i = 0; i < TASKS; i++)
        if (tracer.tasks[i].pid && tracer.tasks[i].space == space)
            return;
    for (int i = 0; i < REGIONS; i++)
        if (tracer.regions[i].space == space)
            tracer.regions[i].space = 0;
}

static void add_region(int space, const struct region *what)
{
    for (int i = 0; i < REGIONS; i++) {
        if (tracer.regions[i].space)
            continue;
        tracer.regions[i] = *what;
        tracer.regions[i].space = space;
        return;
    }
}

static void new_child(struct task *parent, pid_t child, bool shares)
{
    struct task *t = task_of(child);
    if (t->space)
        return;
    t->space = shares ? parent->space : ++tracer.last_space;
    for (int i = 0; i < REGIONS && !shares; i++)
        if (tracer.regions[i].space == parent->space)
            add_region(t->space, &tracer.regions[i]);
    if (t->held)
        (void)ptrace(PTRACE_CONT, child, NULL, NULL);
    t->held = false;
}

static void ended(pid_t pid)
{
    struct task *t = task_of(pid);
    int space = t->space;
    *t = (struct task){0};
    drop_space(space);
}

/* --- mapping ------------------------------------------------------------------------------------------------------- */

static int check_mapping(const struct file_id *id, uint64_t length, uint64_t offset)
{
    struct model_bar bar = model_bar(tracer.model, id->hw, id->bar);
    if (model_map_forbidden(tracer.model, id->hw))
        return -EPERM;
    if (length == 0 || offset >= bar.size || length > bar.size - offset)
        return -EINVAL;
    return model_vfio_claimed(tracer.model, id->hw) ? -EINVAL : 0;
}

/* Return: how to go on: PTRACE_SYSCALL when the address is still to come */
static int at_mmap(struct task *t)
{
    struct user_regs_struct regs;
    struct file_id id;
    char link[48];
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) < 0)
        return PTRACE_CONT;
    (void)snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)t->pid, (int)regs.r8);
    if (!identify_link(tracer.model, link, &id) || id.kind != FILE_RESOURCE)
        return PTRACE_CONT;
    int r = check_mapping(&id, regs.rsi, regs.r9);
    if (r < 0) {
        regs.orig_rax = ~0ull; /* no system call; this is its result */
        regs.rax = (unsigned long long)(long long)r;
        (void)ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
        return PTRACE_CONT;
    }
    t->mapping = (struct region){.length = (regs.rsi + 4095) & ~4095ull,
                                 .offset = regs.r9,
                                 .hw = id.hw,
                                 .bar = id.bar,
                                 .generation = model_map_generation(tracer.model, id.hw)};
    regs.rdx = PROT_NONE;
    regs.r10 = (regs.r10 & (MAP_FIXED | MAP_FIXED_NOREPLACE)) | MAP_PRIVATE | MAP_ANONYMOUS |
               MAP_NORESERVE;
    regs.r8 = ~0ull;
    regs.r9 = 0;
    (void)ptrace(PTRACE_SETREGS, t->pid, NULL, &regs);
    return PTRACE_SYSCALL;
}

static void after_mmap(struct task *t)
{
    struct user_regs_struct regs;
    if (!t->mapping.length || ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) < 0)
        return;
    t->mapping.start = regs.rax;
    if (regs.rax < ~4095ull)
        add_region(t->space, &t->mapping);
    t->mapping.length = 0;
}

/* --- faults -------------------------------------------------------------------------------------------------------- */

static uint64_t read_device(const struct region *r, uint64_t at, unsigned n)
{
    uint64_t bytes[2] = {0}, value = 0, first = at & ~3ull;
    for (uint64_t dword = first; dword < at + n; dword += 4) {
        uint32_t v = model_bar_read(tracer.model, r->hw, r->bar, dword);
        memcpy((char *)bytes + (dword - first), &v, 4);
    }
    memcpy(&value, (char *)bytes + (at - first), n);
    return value;
}

static void write_device(const struct region *r, uint64_t at, unsigned n, uint64_t value)
{
    for (unsigned done = 0; done < n;) {
        unsigned skip = (at + done) & 3, chunk = 4 - skip < n - done ? 4 - skip : n - done;
        uint64_t dword = (at + done) & ~3ull;
        uint32_t v = chunk == 4 ? 0 : model_bar_read(tracer.model, r->hw, r->bar, dword);
        memcpy((char *)&v + skip, (char *)&value + done, chunk);
        model_bar_write(tracer.model, r->hw, r->bar, dword, v);
        done += chunk;
    }
}

static bool run(pid_t pid, const struct region *r, uint64_t at)
{
    struct user_regs_struct u;
    uint8_t code[32] = {0};
    struct insn in;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &u) < 0)
        return false;
    struct iovec local = {code, INSN_MAX}, remote = {(void *)(uintptr_t)u.rip, INSN_MAX};
    if (process_vm_readv(pid, &local, 1, &remote, 1, 0) <= 0) {
        local.iov_len = remote.iov_len = 4096 - (u.rip & 4095); /* the last ones of a page */
        if (local.iov_len > INSN_MAX || process_vm_readv(pid, &local, 1, &remote, 1, 0) <= 0)
            return false;
    }
    if (!insn_decode(code, &in)) {
        (void)fprintf(stderr,
                      "ccnode-sim: process %d: instruction %02x %02x %02x %02x on device memory is "
                      "not supported\n",
                      (int)pid, code[0], code[1], code[2], code[3]);
        return false;
    }
    uint64_t regs[16] = {u.rax, u.rcx, u.rdx, u.rbx, u.rsp, u.rbp, u.rsi, u.rdi,
                         u.r8,  u.r9,  u.r10, u.r11, u.r12, u.r13, u.r14, u.r15};
    uint64_t flags = u.eflags, value = in.kind == INSN_STORE ? 0 : read_device(r, at, in.width);
    insn_run(&in, regs, &flags, &value);
    if (in.kind == INSN_STORE || in.kind == INSN_ALU_WRITE)
        write_device(r, at, in.width, value);
    unsigned long long *const out[16] = {&u.rax, &u.rcx, &u.rdx, &u.rbx, &u.rsp, &u.rbp,
                                         &u.rsi, &u.rdi, &u.r8,  &u.r9,  &u.r10, &u.r11,
                                         &u.r12, &u.r13, &u.r14, &u.r15};
    for (int i = 0; i < 16; i++)
        *out[i] = regs[i];
    u.eflags = flags;
    u.rip += in.length;
    return ptrace(PTRACE_SETREGS, pid, NULL, &u) == 0;
}

static const struct region *region_of(const struct task *t, uint64_t addr)
{
    for (int i = 0; i < REGIONS; i++) {
        const struct region *r = &tracer.regions[i];
        if (r->space == t->space && addr >= r->start && addr - r->start < r->length)
            return r;
    }
    return NULL;
}

/* Return: the signal to deliver, 0 = none */
static int at_fault(struct task *t)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, t->pid, NULL, &info) < 0 || info.si_code <= 0)
        return SIGSEGV;
    uint64_t addr = (uintptr_t)info.si_addr;
    const struct region *r = region_of(t, addr);
    if (!r)
        return SIGSEGV;
    if (model_map_generation(tracer.model, r->hw) != r->generation) {
        info.si_signo = SIGBUS;
        info.si_code = BUS_ADRERR;
        (void)ptrace(PTRACE_SETSIGINFO, t->pid, NULL, &info);
        return SIGBUS;
    }
    enum model_kill who = model_kill_due(tracer.model);
    if (who != MODEL_KILL_NONE)
        model_kill(t->pid, who);
    if (who == MODEL_KILL_SELF || who == MODEL_KILL_BOTH)
        return 0;
    return run(t->pid, r, r->offset + (addr - r->start)) ? 0 : SIGSEGV;
}

/* --- stops --------------------------------------------------------------------------------------------------------- */

static void child_of(struct task *t, int event)
{
    unsigned long child = 0;
    /* a vfork'ed child shares memory too, but only until its exec */
    if (ptrace(PTRACE_GETEVENTMSG, t->pid, NULL, &child) == 0)
        new_child(t, (pid_t)child, event != PTRACE_EVENT_FORK);
}

/* Return: request to go on with; *ret_signal to deliver */
static int at_stop(struct task *t, int status, int *ret_signal)
{
    int sig = WSTOPSIG(status), event = status >> 16;
    *ret_signal = 0;
    switch (event) {
    case PTRACE_EVENT_SECCOMP:
        return at_mmap(t);
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
        child_of(t, event);
        return PTRACE_CONT;
    case PTRACE_EVENT_EXEC: {
        int space = t->space;
        t->space = ++tracer.last_space;
        drop_space(space);
        return PTRACE_CONT;
    }
    case 0:
        break;
    default: /* group stop of a new task */
        return PTRACE_CONT;
    }
    if (sig == SYSCALL_STOP)
        after_mmap(t);
    else if (sig == SIGSEGV)
        *ret_signal = at_fault(t);
    else
        *ret_signal = sig;
    return PTRACE_CONT;
}

/* Return: how the first program ended, as waitpid() tells it */
static int follow(void)
{
    int first = 0;
    for (;;) {
        int status = 0, sig = 0;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return first;
        if (!WIFSTOPPED(status)) {
            if (pid == tracer.first)
                first = status;
            ended(pid);
            continue;
        }
        struct task *t = task_of(pid);
        int request = PTRACE_CONT;
        if (t->begun) {
            request = at_stop(t, status, &sig);
        } else { /* the stop every new task begins with; it may be told before its creator's event */
            t->begun = true;
            t->held = t->space == 0;
            if (t->held)
                continue;
        }
        (void)ptrace((enum __ptrace_request)request, pid, NULL, (void *)(uintptr_t)sig);
    }
}

/* --- start --------------------------------------------------------------------------------------------------------- */

#define ARGUMENT(n) (offsetof(struct seccomp_data, args[n]))

/* stops at mmap of a file, nowhere else */
static void install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(3)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0))
        _exit(127);
}

static void start_program(char **command)
{
    (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    (void)raise(SIGSTOP);
    install_filter();
    (void)execvp(command[0], command);
    (void)fprintf(stderr, "ccnode-sim: %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

static void pass_signal(int sig)
{
    (void)kill(tracer.first, sig);
}

static void end_like(int status)
{
    if (!WIFSIGNALED(status))
        return;
    struct rlimit none = {0};
    (void)setrlimit(RLIMIT_CORE, &none); /* the program has left one already if it may */
    (void)signal(WTERMSIG(status), SIG_DFL);
    (void)raise(WTERMSIG(status));
}

int tracer_run(struct model *model, char **command, struct err *err)
{
    static const int to_pass[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, "fork");
    if (pid == 0)
        start_program(command);
    tracer.model = model;
    tracer.first = pid;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS) < 0) {
        (void)kill(pid, SIGKILL);
        return err_errno(err, "trace %s (it is statically linked, so the trap needs ptrace)",
                         command[0]);
    }
    struct task *t = task_of(pid);
    t->space = ++tracer.last_space;
    t->begun = true;
    for (size_t i = 0; i < ARRAY_LEN(to_pass); i++)
        (void)signal(to_pass[i], pass_signal);
    (void)ptrace(PTRACE_CONT, pid, NULL, NULL);
    status = follow();
    end_like(status);
    return WEXITSTATUS(status);
}
