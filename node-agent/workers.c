#include "node-agent/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/lock.h"

#define ANSWER_MAX_BYTES                                                                           \
    (256 * 1024) /* a holders answer of a busy node; a step answer has some hundred */
#define WORKER_PROGRAM "ccnode-device"

extern char **environ;

struct worker {
    struct workers *workers;
    struct worker *next;
    char target[BDF_SIZE];
    pid_t pid;
    int fd; /* one end of a socket pair: the child's standard input and output */
    struct loop_fd *source;
    struct loop_child *child;
    struct loop_timer *deadline;
    struct loop_timer *soon; /* a failure that must not call back from inside worker_step() */
    bool abandoned, closed, ended;
    enum worker_step step;
    void (*cb)(void *arg, const struct worker_answer *answer); /* NULL = idle */
    void *arg;
    char *buf;
    size_t len, room;
};

struct workers {
    const struct host *host;
    struct loop *loop;
    char *program;
    char *lock_dir;
    bool no_modprobe;
    void (*on_released)(void *arg, const char *bdf);
    void *arg;
    struct worker *list;
};

static char *find_program(const char *given, struct err *err)
{
    if (given)
        return xstrdup(given);
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) {
        (void)err_errno(err, "find the directory of this program");
        return NULL;
    }
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    static const char *const places[] = {"", "/../libexec/ccnode"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        AUTO_FREE char *path = xasprintf("%s%s/" WORKER_PROGRAM, self, places[i]);
        if (access(path, X_OK) == 0)
            return TAKE(path);
    }
    (void)err_set(err, ENOENT, WORKER_PROGRAM " is neither in %s nor in %s/../libexec/ccnode", self,
                  self);
    return NULL;
}

struct workers *workers_new(const struct host *host, struct loop *loop,
                            const struct workers_options *options, struct err *err)
{
    char *program = find_program(options->program, err);
    if (!program)
        return NULL;
    struct workers *workers = xcalloc(1, sizeof *workers);
    *workers = (struct workers){
        .host = host,
        .loop = loop,
        .program = program,
        .lock_dir = xstrdup(options->lock_dir ? options->lock_dir : LOCK_DIR),
        .on_released = options->on_released,
        .arg = options->arg,
    };
    return workers;
}

void workers_allow_modprobe(struct workers *workers, bool allow)
{
    workers->no_modprobe = !allow;
}

bool workers_is_quarantined(const struct workers *workers, const char *bdf, int *ret_pid)
{
    for (const struct worker *w = workers->list; w; w = w->next) {
        if (!w->abandoned || w->ended || strcmp(w->target, bdf) != 0)
            continue;
        if (ret_pid)
            *ret_pid = w->pid;
        return true;
    }
    return false;
}

bool workers_is_locked(const struct workers *workers, const char *bdf, int *ret_pid)
{
    if (!lock_is_held(workers->host, workers->lock_dir, bdf))
        return false;
    if (ret_pid)
        *ret_pid = lock_holder(workers->host, workers->lock_dir, bdf);
    return true;
}

unsigned workers_running(const struct workers *workers)
{
    unsigned n = 0;
    for (const struct worker *w = workers->list; w; w = w->next)
        n += !w->ended;
    return n;
}

static void free_worker(struct worker *worker)
{
    for (struct worker **p = &worker->workers->list; *p; p = &(*p)->next) {
        if (*p == worker) {
            *p = worker->next;
            break;
        }
    }
    loop_cancel(worker->deadline);
    loop_cancel(worker->soon);
    loop_remove_fd(worker->source);
    if (worker->fd >= 0)
        (void)close(worker->fd);
    free(worker->buf);
    free(worker);
}

static void close_pipe(struct worker *worker)
{
    loop_remove_fd(worker->source);
    worker->source = NULL;
    if (worker->fd >= 0)
        (void)close(worker->fd);
    worker->fd = -1;
}

/* A worker is freed when its owner has closed it (or it was abandoned) and the process has been reaped. */
static void free_if_over(struct worker *worker)
{
    if (worker->closed && worker->ended)
        free_worker(worker);
}

static void answer(struct worker *worker, const struct worker_answer *a)
{
    void (*cb)(void *, const struct worker_answer *) = worker->cb;
    void *arg = worker->arg;
    worker->cb = NULL;
    loop_cancel(worker->deadline);
    worker->deadline = NULL;
    if (cb && !worker->closed)
        cb(arg, a);
}

static void fail(struct worker *worker, const char *code, const char *text, const char *cure)
{
    struct worker_answer a = {.step = worker->step};
    (void)snprintf(a.code, sizeof a.code, "%s", code);
    (void)snprintf(a.error, sizeof a.error, "%s", text);
    (void)snprintf(a.cure, sizeof a.cure, "%s", cure);
    answer(worker, &a);
}

static void on_late(void *arg)
{
    struct worker *worker = arg;
    worker->deadline = NULL;
    worker->abandoned = true;
    int limit = worker_deadline_ms(worker->step);
    char text[200];
    (void)snprintf(
        text, sizeof text,
        "no answer after %d s; process %s (pid %d) is stuck in the kernel with the device",
        limit / 1000, WORKER_PROGRAM, (int)worker->pid);
    close_pipe(worker);
    struct worker_answer a = {.step = worker->step, .ms = limit};
    (void)snprintf(a.code, sizeof a.code, "ETIMEDOUT");
    (void)snprintf(a.error, sizeof a.error, "%s", text);
    (void)snprintf(
        a.cure, sizeof a.cure,
        "the device is left alone until that process ends; if it never does, reboot the node");
    answer(worker, &a);
}

static void copy_member(struct json_object *from, const char *key, char *to, size_t room)
{
    struct json_object *value;
    if (json_object_object_get_ex(from, key, &value) &&
        json_object_is_type(value, json_type_string))
        (void)snprintf(to, room, "%s", json_object_get_string(value));
}

static int64_t member_number(struct json_object *from, const char *key)
{
    struct json_object *value;
    bool is =
        json_object_object_get_ex(from, key, &value) && json_object_is_type(value, json_type_int);
    return is ? json_object_get_int64(value) : 0;
}

/* An answer to another step than the one that was asked for is nobody's answer. */
static bool belongs_to(struct json_object *object, enum worker_step step)
{
    char name[32] = "";
    copy_member(object, "step", name, sizeof name);
    return strcmp(name, worker_step_name(step)) == 0;
}

int worker_answer_parse(const char *line, size_t len, enum worker_step step,
                        struct worker_answer *ret)
{
    struct json_object *ok, *object = NULL;
    *ret = (struct worker_answer){.step = step};
    if (len > 0 && len <= ANSWER_MAX_BYTES) {
        struct json_tokener *tokener = json_tokener_new_ex(16);
        object = json_tokener_parse_ex(tokener, line, (int)len);
        if (object && json_tokener_get_parse_end(tokener) != len) {
            json_object_put(object);
            object = NULL;
        }
        json_tokener_free(tokener);
    }
    if (!object || !json_object_is_type(object, json_type_object) || !belongs_to(object, step) ||
        !json_object_object_get_ex(object, "ok", &ok) ||
        !json_object_is_type(ok, json_type_boolean)) {
        json_object_put(object);
        return -EBADMSG;
    }
    ret->members = object;
    ret->ok = json_object_get_boolean(ok);
    ret->ms = member_number(object, "ms");
    ret->device_status = (uint32_t)member_number(object, "device_status");
    ret->locked = json_object_object_get_ex(object, "lock_pid", NULL);
    ret->lock_pid = (int)member_number(object, "lock_pid");
    copy_member(object, "code", ret->code, sizeof ret->code);
    copy_member(object, "error", ret->error, sizeof ret->error);
    copy_member(object, "cure", ret->cure, sizeof ret->cure);
    return 0;
}

static void parse_answer(struct worker *worker, const char *line, size_t len)
{
    struct worker_answer a;
    if (worker_answer_parse(line, len, worker->step, &a) < 0) {
        char text[160];
        (void)snprintf(text, sizeof text,
                       "the answer of " WORKER_PROGRAM " to the step %s is not understood",
                       worker_step_name(worker->step));
        fail(worker, "EBADMSG", text,
             "check that " WORKER_PROGRAM " is of the same release; the step is tried again");
        return;
    }
    answer(worker, &a);
    json_object_put(a.members);
}

static void on_readable(void *arg, int fd, uint32_t events)
{
    struct worker *worker = arg;
    (void)events;
    if (worker->len + 4096 > worker->room) {
        worker->room = worker->len + 16384;
        worker->buf = xrealloc(worker->buf, worker->room, 1);
    }
    ssize_t n = read(fd, worker->buf + worker->len, worker->room - worker->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || worker->len + (size_t)n > ANSWER_MAX_BYTES) {
        close_pipe(worker);
        if (worker->cb)
            fail(worker, "EPIPE",
                 n > 0 ? WORKER_PROGRAM " answered without end"
                       : WORKER_PROGRAM " ended without an answer",
                 "see the log of the node for a crash; the step is tried again");
        return;
    }
    worker->len += (size_t)n;
    char *end = memchr(worker->buf, '\n', worker->len);
    if (!end)
        return;
    /* one answer a step: whatever follows the line belongs to nobody */
    size_t line_len = (size_t)(end - worker->buf);
    worker->len = 0;
    if (worker->cb)
        parse_answer(worker, worker->buf, line_len);
}

static void on_exit_of_child(void *arg, pid_t pid, int wait_status)
{
    struct worker *worker = arg;
    (void)pid;
    (void)wait_status;
    worker->child = NULL;
    worker->ended = true;
    if (worker->abandoned) {
        struct workers *workers = worker->workers;
        char target[BDF_SIZE];
        memcpy(target, worker->target, sizeof target);
        free_if_over(worker);
        if (workers->on_released)
            workers->on_released(workers->arg, target);
        return;
    }
    free_if_over(worker);
}

/* The child gets one socket as standard input and output, an empty signal mask and default signals. */
static int spawn(const struct workers *workers, const char *target, bool users_known, int child_fd,
                 pid_t *ret, struct err *err)
{
    AUTO_FREE char *program = xstrdup(workers->program);
    AUTO_FREE char *root = xstrdup(workers->host->root);
    AUTO_FREE char *lock_dir = xstrdup(workers->lock_dir);
    AUTO_FREE char *target_copy = xstrdup(target);
    char opt_root[] = "--host-root", opt_lock[] = "--lock-dir", opt_plain[] = "--no-modprobe",
         opt_known[] = "--users-known";
    char *argv[9] = {program, opt_root, root, opt_lock, lock_dir};
    size_t n = 5;
    if (workers->no_modprobe)
        argv[n++] = opt_plain;
    if (users_known)
        argv[n++] = opt_known;
    argv[n] = target_copy;

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, child_fd, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, child_fd, STDOUT_FILENO);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    /* a group of its own: ctrl-C in a terminal is for the parent, which stops at the next step */
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int r = posix_spawn(ret, program, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? 0 : err_set(err, r, "start %s: %s", program, strerror(r));
}

static struct worker *open_worker(struct workers *workers, const char *target, bool users_known,
                                  struct err *err)
{
    if (workers_is_quarantined(workers, target, NULL)) {
        (void)err_set(err, EBUSY, "%s: a process is still stuck in the kernel with it", target);
        return NULL;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        (void)err_errno(err, "socket pair for " WORKER_PROGRAM);
        return NULL;
    }
    pid_t pid;
    int r = spawn(workers, target, users_known, pair[1], &pid, err);
    (void)close(pair[1]);
    if (r < 0) {
        (void)close(pair[0]);
        return NULL;
    }
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    struct worker *worker = xcalloc(1, sizeof *worker);
    worker->workers = workers;
    worker->fd = pair[0];
    worker->pid = pid;
    (void)snprintf(worker->target, sizeof worker->target, "%s", target);
    worker->child = loop_add_child(workers->loop, pid, on_exit_of_child, worker, err);
    if (!worker->child) {
        (void)close(pair[0]);
        free(worker);
        (void)waitpid(pid, NULL, 0); /* its input is closed: it ends at once */
        return NULL;
    }
    worker->source = loop_add_fd(workers->loop, pair[0], EPOLLIN, on_readable, worker);
    worker->next = workers->list;
    workers->list = worker;
    return worker;
}

struct worker *worker_open(struct workers *workers, const char *target, struct err *err)
{
    return open_worker(workers, target, false, err);
}

struct worker *worker_open_users_known(struct workers *workers, const char *target, struct err *err)
{
    return open_worker(workers, target, true, err);
}

static void fail_soon(void *arg)
{
    struct worker *worker = arg;
    worker->soon = NULL;
    if (worker->abandoned)
        fail(worker, "ETIMEDOUT", "a process is still stuck in the kernel with the device", "");
    else
        fail(worker, "EPIPE", WORKER_PROGRAM " has ended", "see the log of the node for a crash");
}

void worker_step(struct worker *worker, enum worker_step step, const char *argument,
                 void (*cb)(void *arg, const struct worker_answer *answer), void *arg)
{
    worker->step = step;
    worker->cb = cb;
    worker->arg = arg;
    worker->len = 0;
    char line[128];
    int n = snprintf(line, sizeof line, "%s%s%s\n", worker_step_name(step),
                     argument && *argument ? " " : "", argument ? argument : "");
    if (worker->fd < 0 || n < 0 || (size_t)n >= sizeof line ||
        send(worker->fd, line, (size_t)n, MSG_NOSIGNAL) != n) {
        worker->soon = loop_add_timer(worker->workers->loop, 0, fail_soon, worker);
        return;
    }
    worker->deadline =
        loop_add_timer(worker->workers->loop, worker_deadline_ms(step), on_late, worker);
}

void worker_close(struct worker *worker)
{
    if (!worker || worker->closed)
        return;
    worker->closed = true;
    worker->cb = NULL;
    loop_cancel(worker->deadline);
    loop_cancel(worker->soon);
    worker->deadline = worker->soon = NULL;
    close_pipe(worker);
    free_if_over(worker);
}

void workers_free(struct workers *workers)
{
    if (!workers)
        return;
    while (workers->list)
        free_worker(workers->list); /* the loop owns the child watch and frees it with itself */
    free(workers->program);
    free(workers->lock_dir);
    free(workers);
}

void worker_answer_text(const struct worker_answer *answer_, const char *key, char *ret,
                        size_t room)
{
    if (answer_->members)
        copy_member(answer_->members, key, ret, room);
}

static unsigned parse_capable(struct json_object *array)
{
    unsigned set = 0;
    for (size_t i = 0; i < json_object_array_length(array) && i < 8; i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(array, i));
        enum cc_mode mode = name ? cc_mode_parse(name) : CC_MODE_UNKNOWN;
        if (mode != CC_MODE_UNKNOWN)
            set |= CC_MODE_BIT(mode);
    }
    return set;
}

static enum cc_mode parse_mode(struct json_object *members, const char *key)
{
    struct json_object *value;
    if (!json_object_object_get_ex(members, key, &value))
        return CC_MODE_UNKNOWN;
    const char *text = json_object_get_string(value);
    if (text && strcmp(text, cc_mode_name(CC_MODE_INVALID)) == 0)
        return CC_MODE_INVALID;
    return text ? cc_mode_parse(text) : CC_MODE_UNKNOWN;
}

int worker_report(const struct worker_answer *answer_, struct nv_report *ret, struct err *err)
{
    struct json_object *value;
    if (!answer_->ok || !answer_->members)
        return err_set(err, EBADMSG, "%s", answer_->error);
    struct nv_report report = {
        .active = parse_mode(answer_->members, "active"),
        .pending = parse_mode(answer_->members, "pending"),
    };
    if (json_object_object_get_ex(answer_->members, "capable", &value) &&
        json_object_is_type(value, json_type_array))
        report.capable_modes = parse_capable(value);
    if (json_object_object_get_ex(answer_->members, "booted", &value))
        report.booted = json_object_get_boolean(value);
    if (json_object_object_get_ex(answer_->members, "unlisted", &value))
        report.unlisted = json_object_get_boolean(value);
    if (json_object_object_get_ex(answer_->members, "by_vfio", &value))
        report.by_vfio = json_object_get_boolean(value);
    copy_member(answer_->members, "fault", report.fault, sizeof report.fault);
    *ret = report;
    return 0;
}
