/* ccnode-device: steps in on standard input, one JSON object out per step. See worker.h. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/mmio.h"
#include "node-agent/gpu/work.h"
#include "version.h"

#define LINE_MAX_CHARS 128 /* the longest step has 40 */

static const char usage[] =
    "usage: ccnode-device [--host-root DIR] [--lock-dir DIR] [--no-modprobe] [--users-known] "
    "BDF|node|bus\n"
    "Does the work of ccnode-agent and ccnode on one device. Reads one step a line from standard "
    "input and answers\n"
    "each with one JSON object a line. Not for people: use ccnode. The protocol is in "
    "node-agent/gpu/worker.h.\n"
    "  --host-root DIR   prefix of every host path (default /)\n"
    "  --lock-dir DIR    lock files, below the host root (default " LOCK_DIR ")\n"
    "  --no-modprobe     bind does not load missing VFIO drivers\n"
    "  --users-known     the caller has just looked at the users of all devices (step holders)\n"
    "  --help, --version\n";

/* Return: whether the whole line went out */
static bool write_line(struct answer *a)
{
    struct answer line = *a;
    const char *p = line.text;
    size_t left = line.len;
    line.text[left] = '\n'; /* there is room for the zero that stood here */
    for (left++; left > 0;) {
        ssize_t n = write(STDOUT_FILENO, p, left);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            p += n;
            left -= (size_t)n;
        }
    }
    return true;
}

static void write_error(const struct work *work, const struct err *err, struct answer *a)
{
    const char *name = strerrorname_np(err->code);
    const char *cure = work_cure(work, err);
    answer_text(a, "code", name ? name : "EIO");
    if (err->code == EREMOTEIO)
        answer_number(a, "device_status", err->device_status);
    if (work->locked)
        answer_number(a, "lock_pid", work->lock_pid);
    answer_text(a, "error", err->msg);
    if (cure)
        answer_text(a, "cure", cure);
}

/* "STEP[ ARGUMENT]" */
static bool run_line(struct work *work, char *line)
{
    struct err err = ERR_INIT;
    struct answer members = {.first = true}, a = {0};
    size_t len = strcspn(line, " ");
    const char *argument = line[len] ? line + len + 1 : "";
    enum worker_step step = worker_step_find(line, len);
    line[len] = '\0';
    int64_t begin = mmio_now_us();
    int r = work_step(work, step, argument, &members, &err);
    answer_open(&a, NULL, '{');
    answer_text(&a, "step", line);
    answer_bool(&a, "ok", r >= 0);
    answer_number(&a, "ms", (mmio_now_us() - begin) / 1000);
    if (r < 0)
        write_error(work, &err, &a);
    else if (members.len > 0)
        answer_append(&a, &members);
    answer_close(&a, '}');
    bool sent = write_line(&a);
    answer_free(&members);
    answer_free(&a);
    return sent;
}

/* Standard input, a block at a time. Return: the next character, -1 at its end. */
static int next_char(void)
{
    static unsigned char block[4096];
    static size_t at, end;
    while (at == end) {
        ssize_t n = read(STDIN_FILENO, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        at = 0;
        end = (size_t)n;
    }
    return block[at++];
}

/* A line too long is answered once and skipped to its end. Return: false at end of input; a step without its newline
 * was not ordered. */
static bool read_line(char *line, size_t room)
{
    size_t n = 0;
    bool too_long = false;
    for (int c; (c = next_char()) != '\n';) {
        if (c < 0)
            return false;
        too_long = too_long || n + 1 == room;
        if (!too_long)
            line[n++] = (char)(c ? c : '?');
    }
    line[n] = '\0';
    if (too_long)
        (void)snprintf(line, room, "line-too-long");
    return true;
}

static int parse_options(int argc, char **argv, struct work *work, const char **root)
{
    static const struct option options[] = {
        {"host-root", required_argument, NULL, 'r'},
        {"lock-dir", required_argument, NULL, 'l'},
        {"no-modprobe", no_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},
        {"users-known", no_argument, NULL, 'u'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'r':
            *root = optarg;
            break;
        case 'l':
            work->lock_dir = optarg;
            break;
        case 'm':
            work->load_modules = false;
            break;
        case 'u':
            work->users_seen_us = mmio_now_us();
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 1;
        case 'v':
            (void)puts("ccnode-device " CCN_VERSION);
            return 1;
        default:
            return -1;
        }
    }
    const char *target = optind + 1 == argc ? argv[optind] : "";
    if (strcmp(target, WORKER_NODE) != 0 && strcmp(target, WORKER_BUS) != 0 &&
        !inventory_bdf_ok(target)) {
        (void)fprintf(stderr,
                      "ccnode-device: '%s' is neither \"node\", \"bus\" nor a PCI address like "
                      "0000:18:00.0\n",
                      target);
        return -1;
    }
    (void)snprintf(work->target, sizeof work->target, "%.12s", target);
    return 0;
}

int main(int argc, char **argv)
{
    static struct work work = {.lock_dir = LOCK_DIR, .load_modules = true, .lock_fd = -1};
    struct err err = ERR_INIT;
    const char *root = "/";
    char line[LINE_MAX_CHARS];
    int r = parse_options(argc, argv, &work, &root);
    if (r != 0) {
        if (r < 0)
            (void)fputs(usage, stderr);
        return r < 0 ? 2 : 0;
    }
    /* a step is never cut: the parent ends us by end of input, Ctrl-C at a terminal is the parent's matter */
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    if (host_open(&work.host, root, &err) < 0) {
        (void)fprintf(stderr, "ccnode-device: %s\n", err.msg);
        return 2;
    }
    while (read_line(line, sizeof line) && run_line(&work, line))
        ;
    work_end(&work);
    return 0;
}
