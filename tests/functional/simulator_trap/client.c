#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BAR0 (16ul << 20)

void failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: not so: %s (errno %d %s)\n", file, line, what, errno,
                  strerror(errno));
    _exit(1);
}

void *map_resource(const char *path, unsigned long length)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int saved_errno = errno;
    (void)close(fd);
    errno = saved_errno;
    return p;
}

static volatile uint8_t *bar_of(const char *path)
{
    void *p = map_resource(path, BAR0);
    CHECK(p != MAP_FAILED);
    return p;
}

static int forms(char **argv)
{
    volatile uint8_t *bar = bar_of(argv[0]);
    every_form_of_access(bar);
    CHECK(map_resource(argv[0], BAR0 + 4096) == MAP_FAILED && errno == EINVAL);
    /* part of it, and unmapped from both ends */
    CHECK(munmap(PLAIN(bar), 4096) == 0 && munmap(PLAIN(bar + BAR0 - 4096), 4096) == 0);
    CHECK(*(volatile uint32_t *)(bar + 0x8f012c) == 0x8800);
    CHECK(munmap(PLAIN(bar + 4096), BAR0 - 8192) == 0);
    return 0;
}

/* no instruction that needs a single step */
static int decoded(char **argv)
{
    decoded_forms_of_access(bar_of(argv[0]));
    return 0;
}

/* prints what mapping says: ok or the errno's number */
static int try_map(char **argv)
{
    void *p = map_resource(argv[0], BAR0);
    (void)printf("%d\n", p == MAP_FAILED ? errno : 0);
    return 0;
}

static int try_read(char **argv)
{
    uint32_t v = 0;
    int fd = open(argv[0], O_RDWR);
    CHECK(fd >= 0);
    (void)printf("%d\n", pread(fd, &v, 4, 0) < 0 ? errno : 0);
    return 0;
}

static sigjmp_buf jump;
static void *volatile fault_at;
static volatile sig_atomic_t fault_code;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)context;
    fault_at = info->si_addr;
    fault_code = info->si_code;
    siglongjmp(jump, sig);
}

static void catch_faults(void)
{
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
    CHECK(sigaction(SIGSEGV, &a, NULL) == 0 && sigaction(SIGBUS, &a, NULL) == 0);
    CHECK(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_fault);
}

static int revoked(char **argv)
{
    volatile uint32_t *bar = (volatile uint32_t *)bar_of(argv[0]);
    char line[8];
    catch_faults();
    CHECK(bar[0] == 0x180000a1);
    (void)printf("mapped\n");
    (void)fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin));
    int sig = sigsetjmp(jump, 1);
    if (sig == 0)
        (void)bar[0x100 / 4];
    CHECK(sig == SIGBUS && fault_at == PLAIN(bar + 0x100 / 4) && fault_code == BUS_ADRERR);
    CHECK(map_resource(argv[0], BAR0) == MAP_FAILED && errno == EINVAL);
    (void)printf("revoked\n");
    (void)fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin)); /* the holder has closed */
    volatile uint32_t *again = (volatile uint32_t *)bar_of(argv[0]);
    sig = sigsetjmp(jump, 1);
    if (sig == 0)
        (void)bar[0];
    CHECK(sig == SIGBUS); /* the old one stays dead */
    sig = sigsetjmp(jump, 1);
    CHECK(sig == 0);
    (void)again[0];
    return 0;
}

/* handlers and masks of the program's own */
static int signals(char **argv)
{
    volatile uint32_t *bar = (volatile uint32_t *)bar_of(argv[0]);
    sigset_t all;
    (void)sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    CHECK(bar[0] == 0x180000a1);
    CHECK(sigprocmask(SIG_UNBLOCK, &all, NULL) == 0);
    catch_faults();
    volatile uint32_t *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int sig = sigsetjmp(jump, 0);
    if (sig == 0)
        (void)*nothing;
    CHECK(sig == SIGSEGV && fault_at == PLAIN(nothing));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &all) == 0 && !sigismember(&all, SIGTERM));
    CHECK(bar[0] == 0x180000a1);
    return 0;
}

static int crash(char **argv)
{
    volatile uint32_t *bar = (volatile uint32_t *)bar_of(argv[0]);
    CHECK(bar[0] == 0x180000a1);
    volatile uint32_t *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return (int)*nothing;
}

enum { THREADS = 4, ACCESSES = 1000 };

static void *read_port(void *bar)
{
    for (int i = 0; i < ACCESSES; i++)
        (void)*(volatile uint32_t *)((uint8_t *)bar + 0x8f2ad4);
    return NULL;
}

/* prints nothing: the caller counts accesses in the model */
static int threads(char **argv)
{
    pthread_t all[THREADS];
    volatile uint8_t *bar = bar_of(argv[0]);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&all[i], NULL, read_port, PLAIN(bar)) == 0);
    pid_t child = fork();
    if (child == 0) {
        (void)read_port(PLAIN(bar));
        _exit(0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(all[i], NULL) == 0);
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return 0;
}

static int cost(char **argv)
{
    volatile uint32_t *bar = (volatile uint32_t *)bar_of(argv[0]);
    struct timespec a, b;
    enum { N = 20000 };
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < N; i++)
        (void)bar[0];
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    (void)printf("%.0f ns per access\n",
                 ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / N);
    return 0;
}

static int legacy(char **argv)
{
    legacy_vfio(argv[0], argv[1], argv[2]);
    return 0;
}
static int cdev(char **argv)
{
    cdev_vfio(argv[0], argv[1]);
    return 0;
}
static int hold(char **argv)
{
    hold_until_told(argv[0], argv[1], argv[2]);
    return 0;
}

static const struct {
    const char *name;
    int arguments;
    int (*run)(char **argv);
} commands[] = {{"forms", 1, forms},   {"decoded", 1, decoded}, {"map", 1, try_map},
                {"read", 1, try_read}, {"revoked", 1, revoked}, {"signals", 1, signals},
                {"crash", 1, crash},   {"threads", 1, threads}, {"cost", 1, cost},
                {"vfio", 3, legacy},   {"cdev", 2, cdev},       {"hold", 3, hold}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0 && argc == commands[i].arguments + 2)
            return commands[i].run(argv + 2);
    return 2;
}
