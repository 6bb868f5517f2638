#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"

struct loop_fd {
    struct loop *loop;
    struct loop_fd *next;
    int fd;
    bool removed; /* freed at the end of the round, so that events already fetched find it */
    void (*cb)(void *arg, int fd, uint32_t events);
    void *arg;
};

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next; /* sorted by due time, equal ones in order of adding */
    int64_t due_ms;
    void (*cb)(void *arg);
    void *arg;
};

struct loop_child {
    struct loop *loop;
    struct loop_child *next;
    struct loop_fd *source;
    int pidfd;
    pid_t pid;
    void (*cb)(void *arg, pid_t pid, int wait_status);
    void *arg;
};

struct signal_source {
    struct signal_source *next;
    int fd;
    int signo;
    void (*cb)(void *arg, int signo);
    void *arg;
};

struct job {
    struct job *next;
    void (*cb)(void *arg);
    void *arg;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    bool stop;
    bool any_removed;
    bool reaps; /* whatever ended, not only what is watched */
    int64_t (*now_ms)(void *arg);
    void *clock_arg;
    struct loop_fd *fds;
    struct loop_timer *timers;
    struct loop_child *children;
    struct signal_source *signals;
    pthread_mutex_t lock; /* guards jobs, turn and wakes_at_ms */
    pthread_cond_t given_back;
    enum { AWAKE, ASLEEP, BORROWED } turn;
    int64_t wakes_at_ms; /* the timer that it sleeps for */
    struct job *jobs, **jobs_end;
};

static int64_t monotonic_ms(void *arg)
{
    (void)arg;
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms(loop->clock_arg);
}

static void run_jobs(void *arg, int fd, uint32_t events)
{
    struct loop *loop = arg;
    (void)events;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count); /* only the wake-up matters */
    (void)n;
    (void)pthread_mutex_lock(&loop->lock);
    struct job *job = loop->jobs;
    loop->jobs = NULL;
    loop->jobs_end = &loop->jobs;
    (void)pthread_mutex_unlock(&loop->lock);
    while (job) {
        struct job *next = job->next;
        job->cb(job->arg);
        free(job);
        job = next;
    }
}

struct loop *loop_new(int64_t (*now_ms)(void *arg), void *clock_arg)
{
    struct loop *loop = xcalloc(1, sizeof *loop);
    loop->now_ms = now_ms ? now_ms : monotonic_ms;
    loop->clock_arg = clock_arg;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0)
        abort(); /* no descriptors left at start: nothing can be done without a loop */
    loop->jobs_end = &loop->jobs;
    (void)pthread_mutex_init(&loop->lock, NULL);
    (void)pthread_cond_init(&loop->given_back, NULL);
    (void)loop_add_fd(loop, loop->wake_fd, EPOLLIN, run_jobs, loop);
    return loop;
}

struct loop_fd *loop_add_fd(struct loop *loop, int fd, uint32_t events,
                            void (*cb)(void *arg, int fd, uint32_t events), void *arg)
{
    struct loop_fd *source = xcalloc(1, sizeof *source);
    *source = (struct loop_fd){.loop = loop, .next = loop->fds, .fd = fd, .cb = cb, .arg = arg};
    loop->fds = source;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        abort(); /* a descriptor that is closed, added twice or a plain file: our own mistake */
    return source;
}

void loop_change_fd(struct loop_fd *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        abort();
}

void loop_remove_fd(struct loop_fd *source)
{
    if (!source || source->removed)
        return;
    (void)epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->removed = true;
    source->loop->any_removed = true;
}

static void free_removed(struct loop *loop)
{
    if (!loop->any_removed)
        return;
    loop->any_removed = false;
    for (struct loop_fd **p = &loop->fds; *p;) {
        struct loop_fd *source = *p;
        if (source->removed) {
            *p = source->next;
            free(source);
        } else {
            p = &source->next;
        }
    }
}

struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ms, void (*cb)(void *arg),
                                  void *arg)
{
    struct loop_timer *timer = xcalloc(1, sizeof *timer);
    int64_t due = loop_now_ms(loop) + (delay_ms > 0 ? delay_ms : 0);
    *timer = (struct loop_timer){.loop = loop, .due_ms = due, .cb = cb, .arg = arg};
    struct loop_timer **p = &loop->timers;
    while (*p && (*p)->due_ms <= due)
        p = &(*p)->next;
    timer->next = *p;
    *p = timer;
    return timer;
}

void loop_cancel(struct loop_timer *timer)
{
    if (!timer)
        return;
    for (struct loop_timer **p = &timer->loop->timers; *p; p = &(*p)->next) {
        if (*p == timer) {
            *p = timer->next;
            free(timer);
            return;
        }
    }
}

static void run_due_timers(struct loop *loop)
{
    int64_t now = loop_now_ms(loop);
    while (loop->timers && loop->timers->due_ms <= now && !loop->stop) {
        struct loop_timer *timer = loop->timers;
        loop->timers = timer->next;
        void (*cb)(void *arg) = timer->cb;
        void *arg = timer->arg;
        free(timer);
        cb(arg);
    }
}

static void signal_ready(void *arg, int fd, uint32_t events)
{
    struct signal_source *source = arg;
    (void)events;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        source->cb(source->arg, source->signo);
}

int loop_add_signal(struct loop *loop, int signo, void (*cb)(void *arg, int signo), void *arg,
                    struct err *err)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, signo);
    int r = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (r != 0)
        return err_set(err, r, "block signal %d: %s", signo, strerror(r));
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "signalfd for signal %d", signo);
    struct signal_source *source = xcalloc(1, sizeof *source);
    *source = (struct signal_source){loop->signals, fd, signo, cb, arg};
    loop->signals = source;
    (void)loop_add_fd(loop, fd, EPOLLIN, signal_ready, source);
    return 0;
}

static void child_done(struct loop_child *child)
{
    for (struct loop_child **p = &child->loop->children; *p; p = &(*p)->next) {
        if (*p == child) {
            *p = child->next;
            break;
        }
    }
    loop_remove_fd(child->source);
    (void)close(child->pidfd);
    free(child);
}

static bool is_watched(const struct loop *loop, pid_t pid)
{
    for (const struct loop_child *child = loop->children; child; child = child->next) {
        if (child->pid == pid)
            return true;
    }
    return false;
}

/* waitid() always finds the same dead child first: one that is watched stops the round, and child_ready() goes on. */
static void reap_orphans(struct loop *loop)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
            is_watched(loop, info.si_pid) || waitpid(info.si_pid, NULL, WNOHANG) <= 0)
            return;
    }
}

static void on_child_signal(void *arg, int signo)
{
    (void)signo;
    reap_orphans(arg);
}

int loop_reap_orphans(struct loop *loop, struct err *err)
{
    int r = loop_add_signal(loop, SIGCHLD, on_child_signal, loop, err);
    if (r < 0)
        return r;
    loop->reaps = true;
    reap_orphans(loop); /* those that came before */
    return 0;
}

static void child_ready(void *arg, int fd, uint32_t events)
{
    struct loop_child *child = arg;
    (void)fd;
    (void)events;
    int status = 0;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0)
        return;
    void (*cb)(void *, pid_t, int) = child->cb;
    void *cb_arg = child->arg;
    struct loop *loop = child->loop;
    pid = child->pid;
    child_done(child);
    if (loop->reaps)
        reap_orphans(loop);
    cb(cb_arg, pid, status);
}

struct loop_child *loop_add_child(struct loop *loop, pid_t pid,
                                  void (*cb)(void *arg, pid_t pid, int wait_status), void *arg,
                                  struct err *err)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        (void)err_errno(err, "watch child %d", (int)pid);
        return NULL;
    }
    struct loop_child *child = xcalloc(1, sizeof *child);
    *child = (struct loop_child){
        .loop = loop, .next = loop->children, .pidfd = pidfd, .pid = pid, .cb = cb, .arg = arg};
    loop->children = child;
    child->source = loop_add_fd(loop, pidfd, EPOLLIN, child_ready, child);
    return child;
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(loop->wake_fd, &one, sizeof one); /* a full counter wakes as well */
    (void)n;
}

bool loop_borrow(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    bool mine = loop->turn == ASLEEP;
    if (mine)
        loop->turn = BORROWED;
    (void)pthread_mutex_unlock(&loop->lock);
    return mine;
}

void loop_give_back(struct loop *loop)
{
    bool due = loop->stop || (loop->timers && loop->timers->due_ms < loop->wakes_at_ms);
    (void)pthread_mutex_lock(&loop->lock);
    loop->turn = ASLEEP;
    (void)pthread_cond_signal(&loop->given_back);
    (void)pthread_mutex_unlock(&loop->lock);
    if (due) /* it sleeps for longer than it may now */
        wake(loop);
}

static void fall_asleep(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    loop->wakes_at_ms = loop->timers ? loop->timers->due_ms : INT64_MAX;
    loop->turn = ASLEEP;
    (void)pthread_mutex_unlock(&loop->lock);
}

static void wake_up(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    while (loop->turn == BORROWED)
        (void)pthread_cond_wait(&loop->given_back, &loop->lock);
    loop->turn = AWAKE;
    (void)pthread_mutex_unlock(&loop->lock);
}

void loop_post(struct loop *loop, void (*cb)(void *arg), void *arg)
{
    struct job *job = xcalloc(1, sizeof *job);
    *job = (struct job){.cb = cb, .arg = arg};
    (void)pthread_mutex_lock(&loop->lock);
    *loop->jobs_end = job;
    loop->jobs_end = &job->next;
    (void)pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

static int wait_limit(const struct loop *loop, int timeout_ms)
{
    if (!loop->timers)
        return timeout_ms;
    int64_t left = loop->timers->due_ms - loop_now_ms(loop);
    if (left < 0)
        left = 0;
    if (timeout_ms >= 0 && left > timeout_ms)
        left = timeout_ms;
    return left > 3600000 ? 3600000 : (int)left;
}

void loop_run_once(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[64];
    int limit = wait_limit(loop, timeout_ms);
    fall_asleep(loop);
    int n = epoll_wait(loop->epoll_fd, events, ARRAY_LEN(events), limit);
    wake_up(loop);
    for (int i = 0; i < n && !loop->stop; i++) {
        struct loop_fd *source = events[i].data.ptr;
        if (!source->removed)
            source->cb(source->arg, source->fd, events[i].events);
    }
    run_due_timers(loop);
    free_removed(loop);
}

void loop_run(struct loop *loop)
{
    loop->stop = false;
    while (!loop->stop)
        loop_run_once(loop, -1);
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->timers)
        loop_cancel(loop->timers);
    while (loop->children)
        child_done(loop->children);
    while (loop->signals) {
        struct signal_source *source = loop->signals;
        loop->signals = source->next;
        (void)close(source->fd);
        free(source);
    }
    while (loop->jobs) {
        struct job *job = loop->jobs;
        loop->jobs = job->next;
        free(job);
    }
    while (loop->fds) {
        struct loop_fd *source = loop->fds;
        loop->fds = source->next;
        free(source);
    }
    (void)close(loop->wake_fd);
    (void)close(loop->epoll_fd);
    (void)pthread_cond_destroy(&loop->given_back);
    (void)pthread_mutex_destroy(&loop->lock);
    free(loop);
}
