/* Preloaded into ccnode-agent by the crash tests: kills it at the N-th operation that changes a file or a directory:
 * create, sync, rename, unlink, mkdir, bind of a socket. Journal, CDI files, readiness files, status and sockets are
 * made of these.
 *
 * CCNODE_CRASH_FILE names a file that the test maps too: what is armed, and how many operations there were. Beside it
 * FILE.log gets one line an operation. Other programs, ccnode-device among them, are left alone. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* points.py: FileWrite */
struct shared {
    uint64_t left;  /* operations until the blow; 0 = never */
    uint64_t after; /* it falls after the operation, else before */
    uint64_t count;
};

static struct shared *shared;
static int log_fd = -1;

/* the next library's function: the trap of the simulated node may be in between */
#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("CCNODE_CRASH_FILE");
    if (!path || strcmp(program_invocation_short_name, "ccnode-agent") != 0)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *p =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char log[512];
    (void)snprintf(log, sizeof log, "%s.log", path);
    log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (p == MAP_FAILED || log_fd < 0) {
        (void)fprintf(stderr, "crashpoint: %s: %s\n", path, strerror(errno));
        abort();
    }
    (void)close(fd);
    shared = p;
}

/* Return: whether the blow falls when the operation is over. */
static int begin(const char *what, const char *name)
{
    if (!shared)
        return 0;
    int saved = errno;
    uint64_t n = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    (void)dprintf(log_fd, "%llu %s %s\n", (unsigned long long)n, what, name ? name : "-");
    errno = saved;
    if (__atomic_load_n(&shared->left, __ATOMIC_SEQ_CST) == 0 ||
        __atomic_sub_fetch(&shared->left, 1, __ATOMIC_SEQ_CST) != 0)
        return 0;
    if (!shared->after)
        (void)kill(getpid(), SIGKILL);
    return 1;
}

static void end(int due)
{
    if (due)
        (void)kill(getpid(), SIGKILL);
}

int openat(int dir, const char *name, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list ap;
        va_start(ap, flags);
        mode = (mode_t)va_arg(ap, int);
        va_end(ap);
    }
    int due = flags & O_CREAT ? begin("create", name) : 0;
    int r = NEXT(openat)(dir, name, flags, mode);
    end(due);
    return r;
}

int fsync(int fd)
{
    int due = begin("sync", NULL);
    int r = NEXT(fsync)(fd);
    end(due);
    return r;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    int due = begin("rename", to);
    int r = NEXT(renameat)(from_dir, from, to_dir, to);
    end(due);
    return r;
}

int unlinkat(int dir, const char *name, int flags)
{
    int due = begin("unlink", name);
    int r = NEXT(unlinkat)(dir, name, flags);
    end(due);
    return r;
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    int due = begin("mkdir", name);
    int r = NEXT(mkdirat)(dir, name, mode);
    end(due);
    return r;
}

int bind(int fd, const struct sockaddr *address, socklen_t len)
{
    int due = address->sa_family == AF_UNIX ? begin("bind", NULL) : 0;
    int r = NEXT(bind)(fd, address, len);
    end(due);
    return r;
}
