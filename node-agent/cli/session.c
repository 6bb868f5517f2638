/* What the commands share: complaints, the loop, looking at the node, choosing devices. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cli/cli.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/gpu/selectors.h"
#include "node-agent/managed.h"
#include "node-agent/status.h"

static void say(const char *prefix, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void say(const char *prefix, const char *fmt, va_list args)
{
    char text[1024];
    (void)vsnprintf(text, sizeof text, fmt, args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    (void)fprintf(stderr, "ccnode: %s%s\n", prefix, text);
}

int cli_complain(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say("", fmt, args);
    va_end(args);
    return status;
}

void cli_warn(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say("warning: ", fmt, args);
    va_end(args);
}

int cli_worse(int a, int b)
{
    static const int rank[] = {
        [CLI_OK] = 0, [CLI_FAILED] = 3, [CLI_IN_USE] = 2, [CLI_IMPOSSIBLE] = 1};
    return rank[a] >= rank[b] ? a : b;
}

void cli_run_until(struct cli *cli, const bool *done)
{
    while (!*done)
        loop_run_once(cli->loop, -1);
}

int cli_workers(struct cli *cli, struct err *err)
{
    static const struct workers_options options = {0};
    if (!cli->workers)
        cli->workers = workers_new(&cli->host, cli->loop, &options, err);
    return cli->workers ? 0 : -ENOENT;
}

int cli_rpc(struct cli *cli, struct err *err)
{
    if (!cli->rpc)
        cli->rpc = rpc_new(cli->loop, err);
    return cli->rpc ? 0 : -EAGAIN;
}

/* ---- one look ---- */

struct waiting {
    struct cli *cli;
    bool done;
    int r;
    struct err *err;
};

static void on_look(void *arg, int r, const struct observed *observed, const struct err *err)
{
    struct waiting *waiting = arg;
    waiting->done = true;
    waiting->r = r;
    if (r < 0)
        *waiting->err = *err;
    else
        waiting->cli->observed = *observed;
}

/* Where a kubelet listens, pods count as users too, also those whose sandbox does not run yet. */
static bool has_kubelet(const struct cli *cli)
{
    const char *socket = cli->config.pod_resources_socket;
    while (*socket == '/')
        socket++;
    return *socket && faccessat(cli->host.root_fd, socket, F_OK, 0) == 0;
}

int cli_look(struct cli *cli, bool users, struct err *err)
{
    struct waiting waiting = {.cli = cli, .err = err};
    int r = cli_workers(cli, err);
    if (r == 0 && !users)
        return observe_now(cli->workers, &cli->host, &cli->memory, &cli->journal, NULL,
                           &cli->observed, err);
    bool kubelet = has_kubelet(cli);
    if (r == 0 && kubelet)
        r = cli_rpc(cli, err);
    if (r < 0)
        return r;
    struct observe_request request = {.rpc = kubelet ? cli->rpc : NULL,
                                      .pod_resources_socket = cli->config.pod_resources_socket};
    (void)observe_start(cli->workers, &cli->host, cli->loop, &request, &cli->memory, &cli->journal,
                        on_look, &waiting);
    cli_run_until(cli, &waiting.done);
    return waiting.r;
}

/* ---- which devices ---- */

static struct nv_device *devices_of(const struct cli *cli)
{
    struct nv_device *devices = xcalloc(cli->observed.n + 1, sizeof *devices);
    for (size_t i = 0; i < cli->observed.n; i++)
        devices[i] = cli->observed.devices[i].dev;
    return devices;
}

void cli_managed(const struct cli *cli, bool ret[static NV_MAX_DEVICES])
{
    struct err err = ERR_INIT;
    AUTO_FREE struct nv_device *devices = devices_of(cli);
    memset(ret, 0, NV_MAX_DEVICES * sizeof *ret);
    if (managed_mark(&cli->config, devices, cli->observed.n, ret, &err) < 0)
        cli_warn("configuration: %s", err.msg);
}

int cli_choose(struct cli *cli)
{
    struct err err = ERR_INIT;
    const char *selector = cli->options.selector;
    size_t n = cli->observed.n;
    AUTO_FREE struct nv_device *devices = devices_of(cli);
    memset(cli->chosen, 0, sizeof cli->chosen);
    if (*cli->observed.unreadable)
        cli_warn("a device was left out: %s", cli->observed.unreadable);
    if (selector) {
        int r = selectors_match(selector, devices, n, cli->chosen, &err);
        if (r < 0)
            return cli_complain(r == -ENODEV ? CLI_NO_DEVICE : CLI_USAGE, "%s", err.msg);
    } else {
        cli_managed(cli, cli->chosen);
    }
    cli->n_chosen = 0;
    for (size_t i = 0; i < n; i++)
        cli->n_chosen += cli->chosen[i];
    if (cli->n_chosen > 0)
        return CLI_OK;
    return cli_complain(CLI_NO_DEVICE, n == 0 ? "this host has no NVIDIA GPU or NVSwitch"
                                              : "the configuration manages none of the devices of "
                                                "this host (devices.include, devices.exclude)");
}

bool cli_in_use(const struct observed *observed, size_t i)
{
    const struct observed_device *d = &observed->devices[i];
    return d->n_holders > 0 || d->n_pods > 0 || !observed->holders_known || !observed->pods_known;
}

size_t cli_users(const struct observed *observed, size_t i, char **ret, size_t room)
{
    const struct observed_device *d = &observed->devices[i];
    size_t n = 0;
    for (size_t k = 0; k < d->n_pods && n < room; k++)
        ret[n++] = xasprintf("pod %s/%s", d->pods[k].namespace, d->pods[k].name);
    for (size_t k = 0; k < d->n_holders && k < NV_MAX_HOLDERS && n < room; k++)
        ret[n++] =
            xasprintf("%s (pid %d, %s)", d->holders[k].comm, d->holders[k].pid, d->holders[k].what);
    return n;
}

/* ---- registers ---- */

struct reading {
    struct cli *cli;
    size_t device, *left;
    bool *done;
    struct worker *worker;
};

static void on_query(void *arg, const struct worker_answer *answer)
{
    struct reading *reading = arg;
    struct observed_device *d = &reading->cli->observed.devices[reading->device];
    struct err err = ERR_INIT;
    struct nv_report report;
    if (!answer->ok) {
        (void)snprintf(reading->cli->read_code[reading->device], sizeof reading->cli->read_code[0],
                       "%s", answer->code);
        (void)snprintf(d->error, sizeof d->error, "%s%s%s", answer->error,
                       *answer->cure ? "; " : "", answer->cure);
    } else if (worker_report(answer, &report, &err) < 0) {
        (void)snprintf(d->error, sizeof d->error, "%s", err.msg);
    } else {
        d->report = report;
        d->knowledge = KNOWN_REGISTERS;
        memory_read(&reading->cli->memory, d->dev.bdf, &report, loop_now_ms(reading->cli->loop));
    }
    worker_close(reading->worker);
    reading->worker = NULL;
    *reading->done = --*reading->left == 0;
}

#define SETTLE_MS 3000 /* a worker that was told to end puts power/control back and goes */

void cli_settle(struct cli *cli)
{
    int64_t until = loop_now_ms(cli->loop) + SETTLE_MS;
    while (workers_running(cli->workers) > 0 && loop_now_ms(cli->loop) < until)
        loop_run_once(cli->loop, 20);
}

/* The worker's codes (node-agent/gpu/steps.c): EBUSY somebody has it; EADDRINUSE, ENXIO, EOPNOTSUPP the host or the device
 * does not allow it; EACCES when staging is the board's own policy; EPERM is kernel lockdown. */
int cli_status_of(const char *code, enum worker_step step)
{
    static const char *const impossible[] = {"EADDRINUSE", "ENXIO", "EOPNOTSUPP", "ENOTSUP",
                                             "EPERM"};
    if (strcmp(code, "EBUSY") == 0)
        return CLI_IN_USE;
    for (size_t i = 0; i < ARRAY_LEN(impossible); i++)
        if (strcmp(code, impossible[i]) == 0)
            return CLI_IMPOSSIBLE;
    return strcmp(code, "EACCES") == 0 && step == WORKER_STAGE ? CLI_IMPOSSIBLE : CLI_FAILED;
}

void cli_read_modes(struct cli *cli)
{
    memset(cli->read_code, 0, sizeof cli->read_code);
    struct reading readings[NV_MAX_DEVICES];
    size_t left = 0;
    bool done = false;
    for (size_t i = 0; i < cli->observed.n; i++) {
        struct observed_device *d = &cli->observed.devices[i];
        struct err err = ERR_INIT;
        if (!cli->chosen[i] || cli_in_use(&cli->observed, i) || d->knowledge == KNOWN_REGISTERS)
            continue;
        struct reading *reading = &readings[left];
        *reading = (struct reading){.cli = cli, .device = i, .left = &left, .done = &done};
        reading->worker = worker_open(cli->workers, d->dev.bdf, &err);
        if (!reading->worker) {
            (void)snprintf(d->error, sizeof d->error, "%s", err.msg);
            continue;
        }
        left++;
        worker_step(reading->worker, WORKER_QUERY, NULL, on_query, reading);
    }
    done = left == 0;
    cli_run_until(cli, &done);
    cli_settle(cli);
}

/* ---- the agent ---- */

int cli_agent_pid(const struct host *host)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    if (fs_read(host, STATUS_DIR "/" STATUS_FILE, STATUS_MAX_BYTES, &text, &len, &err) < 0)
        return 0;
    struct json_object *root = json_tokener_parse(text), *value = NULL;
    int pid = 0;
    if (json_object_is_type(root, json_type_object) &&
        json_object_object_get_ex(root, "pid", &value) && json_object_is_type(value, json_type_int))
        pid = json_object_get_int(value);
    json_object_put(root);
    return lock_is_held(host, STATUS_DIR, AGENT_LOCK) ? pid : 0;
}
