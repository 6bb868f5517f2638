/* The device plugin, PodResources and CRI clients without an agent: lines in, lines out.
 *
 *   in   resource NAME / device key=value … / apply     what to offer: id healthy(0|1) numa node bdfs cdi reason partition switch
 *        allow / deny REASON                             what may_allocate says
 *        registered NAME                                 is it?
 *        pods SOCKET MS / get SOCKET MS                  PodResources: List, is Get there?
 *        cri SOCKET MS / sandboxes SOCKET MS             container runtime ("auto" for SOCKET)
 *        has HANDLER / reads DIR                         of the runtime that the last "cri" found, for what comes next
 *        quiet                                           no lines about allocations
 *        stop keep|withdraw
 *   out  one line per event: "event KIND RESOURCE TEXT", "answer …", "stopped MS" after the order; before the answer to apply
 *        "applied SECONDS", when it was
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/auto.h"
#include "base/host.h"
#include "base/rpc.h"
#include "device-plugin/device_plugin.h"
#include "node-agent/cri/cri.h"
#include "node-agent/kubelet/pod_resources.h"

#define MAX 64

struct driver {
    struct host host;
    struct loop *loop;
    struct rpc *rpc;
    struct dp *dp;
    size_t n_resources;
    struct dp_resource resources[MAX];
    struct dp_device devices[MAX][DP_MAX_DEVICES];
    char *deny;
    char line[65536];
    size_t have;
    const char *handler, *dir; /* what the next "cri" is asked about */
    bool quiet;                /* no lines about allocations: a benchmark */
    int64_t stop_ms;           /* when the end was ordered */
    size_t n_texts;
    char *texts[65536]; /* freed at the end */
};

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
    (void)fflush(stdout);
}

static bool may_allocate(void *arg, const char *resource, const char *id, char why[DP_MAX_REASON])
{
    struct driver *d = arg;
    (void)resource;
    (void)id;
    if (!d->deny)
        return true;
    (void)snprintf(why, DP_MAX_REASON, "%s", d->deny);
    return false;
}

static void on_event(void *arg, const struct dp_event *event)
{
    static const char *const names[] = {"waiting",   "registered",   "lost",   "refused",
                                        "allocated", "alloc-failed", "trouble"};
    const struct driver *d = arg;
    if (d->quiet && (event->kind == DP_ALLOCATED || event->kind == DP_ALLOC_FAILED))
        return;
    say("event %s %s %s", names[event->kind], event->resource, event->text);
}

static char *keep(struct driver *d, const char *text)
{
    if (d->n_texts == ARRAY_LEN(d->texts))
        abort();
    return d->texts[d->n_texts++] = xstrdup(text);
}

static void forget(struct driver *d)
{
    d->n_resources = 0;
    memset(d->resources, 0, sizeof d->resources);
}

static void set_field(struct driver *d, struct dp_device *device, const char *key,
                      const char *value)
{
    const char **texts[] = {&device->id,     &device->node,      &device->bdfs,       &device->cdi,
                            &device->reason, &device->partition, &device->pcie_switch};
    static const char *const keys[] = {"id",     "node",      "bdfs",  "cdi",
                                       "reason", "partition", "switch"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcmp(key, keys[i]) == 0)
            *texts[i] = keep(d, value);
    if (strcmp(key, "healthy") == 0)
        device->healthy = value[0] == '1';
    if (strcmp(key, "numa") == 0)
        device->numa_node = atoi(value);
}

static void add_device(struct driver *d, char *rest)
{
    struct dp_resource *resource = &d->resources[d->n_resources - 1];
    struct dp_device *device = &d->devices[d->n_resources - 1][resource->n++];
    *device = (struct dp_device){.healthy = true, .numa_node = -1};
    for (char *save = NULL, *word = strtok_r(rest, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        if (!value)
            continue;
        *value++ = '\0';
        set_field(d, device, word, value);
    }
    resource->devices = d->devices[d->n_resources - 1];
}

static void stopped(void *arg)
{
    struct driver *d = arg;
    say("stopped %lld", (long long)(loop_now_ms(d->loop) - d->stop_ms));
    loop_stop(d->loop);
}

static void apply(struct driver *d)
{
    struct err err;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int r = dp_set(d->dp, d->resources, d->n_resources, &err);
    say("applied %lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    say("answer %d %s", r, r < 0 ? err.msg : "");
    forget(d);
}

static void pods_answered(void *arg, int r, const struct pod_list *list, const struct err *err)
{
    (void)arg;
    for (size_t i = 0; list && i < list->n; i++)
        say("held %s %s %s %s %s%s", list->held[i].namespace_, list->held[i].pod,
            list->held[i].container, list->held[i].resource, list->held[i].id,
            list->held[i].claim ? " claim" : "");
    say("answer %d %s", r, r < 0 ? err->msg : "");
}

static void get_answered(void *arg, enum pod_resources_get get, const struct err *err)
{
    static const char *const names[] = {"unknown", "works", "missing"};
    (void)arg;
    say("answer %s %s", names[get], err->msg);
}

static void cri_answered(void *arg, int r, const struct cri_runtime *runtime, const struct err *err)
{
    static const char *const known[] = {"unknown", "no", "yes"};
    const struct driver *d = arg;
    if (runtime) {
        say("runtime %s %s %s ready=%d %s", runtime->name, runtime->version, runtime->socket,
            runtime->ready, runtime->not_ready_why);
        for (size_t i = 0; i < runtime->n_handlers; i++)
            say("handler %s", runtime->handlers[i]);
        for (size_t i = 0; i < runtime->n_cdi_dirs; i++)
            say("dir %s", runtime->cdi_dirs[i]);
        say("cdi %s", known[runtime->cdi]);
        say("has %s", known[cri_has_handler(runtime, d->handler ? d->handler : "")]);
        say("reads %s", known[cri_reads_cdi_dir(runtime, d->dir ? d->dir : "")]);
    }
    say("answer %d %s", r, r < 0 ? err->msg : "");
}

static void sandboxes_answered(void *arg, int r, const struct cri_sandboxes *list,
                               const struct err *err)
{
    (void)arg;
    for (size_t i = 0; list && i < list->n; i++)
        say("sandbox %s %s %s %s %s ready=%d", list->sandboxes[i].id, list->sandboxes[i].namespace_,
            list->sandboxes[i].pod, list->sandboxes[i].uid, list->sandboxes[i].handler,
            list->sandboxes[i].ready);
    say("answer %d %s", r, r < 0 ? err->msg : "");
}

/* "SOCKET MS" */
static bool query(struct driver *d, const char *line, char *rest)
{
    if (strcmp(line, "pods") != 0 && strcmp(line, "get") != 0 && strcmp(line, "cri") != 0 &&
        strcmp(line, "sandboxes") != 0)
        return false;
    char *space = strchr(rest, ' ');
    int ms = space ? atoi(space + 1) : 5000;
    if (space)
        *space = '\0';
    if (strcmp(line, "pods") == 0)
        (void)pod_resources_list(d->rpc, &d->host, rest, ms, pods_answered, d);
    else if (strcmp(line, "get") == 0)
        (void)pod_resources_probe_get(d->rpc, &d->host, rest, ms, get_answered, d);
    else if (strcmp(line, "cri") == 0)
        (void)cri_ask(d->rpc, &d->host, rest, ms, cri_answered, d);
    else
        (void)cri_list_sandboxes(d->rpc, &d->host, rest, ms, sandboxes_answered, d);
    return true;
}

static void command(struct driver *d, char *line)
{
    char *rest = strchr(line, ' ');
    if (rest)
        *rest++ = '\0';
    else
        rest = line + strlen(line);
    if (query(d, line, rest))
        return;
    if (strcmp(line, "has") == 0)
        d->handler = keep(d, rest);
    else if (strcmp(line, "reads") == 0)
        d->dir = keep(d, rest);
    else if (strcmp(line, "resource") == 0 && d->n_resources < MAX)
        d->resources[d->n_resources++].name = keep(d, rest);
    else if (strcmp(line, "device") == 0 && d->n_resources > 0)
        add_device(d, rest);
    else if (strcmp(line, "apply") == 0)
        apply(d);
    else if (strcmp(line, "allow") == 0)
        d->deny = NULL;
    else if (strcmp(line, "deny") == 0)
        d->deny = keep(d, rest);
    else if (strcmp(line, "quiet") == 0)
        d->quiet = true;
    else if (strcmp(line, "registered") == 0)
        say("answer %d", dp_registered(d->dp, rest));
    else if (strcmp(line, "stop") == 0) {
        d->stop_ms = loop_now_ms(d->loop);
        dp_stop(d->dp, strcmp(rest, "withdraw") == 0 ? DP_STOP_WITHDRAW : DP_STOP_KEEP, stopped, d);
    } else
        say("error: what is \"%s\"?", line);
}

static void input(void *arg, int fd, uint32_t events)
{
    struct driver *d = arg;
    (void)events;
    ssize_t n = read(fd, d->line + d->have, sizeof d->line - d->have);
    if (n <= 0) {
        loop_stop(d->loop);
        return;
    }
    d->have += (size_t)n;
    for (char *end; (end = memchr(d->line, '\n', d->have));) {
        *end = '\0';
        command(d, d->line);
        d->have -= (size_t)(end + 1 - d->line);
        memmove(d->line, end + 1, d->have);
    }
}

int main(int argc, char **argv)
{
    struct err err;
    AUTO_FREE struct driver *d = xcalloc(1, sizeof *d);
    if (argc != 3 || host_open(&d->host, argv[1], &err) < 0)
        return 2;
    d->loop = loop_new(NULL, NULL);
    d->rpc = rpc_new(d->loop, &err);
    struct dp_options options = {.host = &d->host,
                                 .directory = argv[2],
                                 .may_allocate = may_allocate,
                                 .on_event = on_event,
                                 .arg = d};
    d->dp = dp_new(d->loop, d->rpc, &options);
    struct loop_fd *in = loop_add_fd(d->loop, 0, EPOLLIN, input, d);
    say("ready");
    loop_run(d->loop);
    loop_remove_fd(in);
    dp_free(d->dp);
    rpc_free(d->rpc);
    loop_free(d->loop);
    host_close(&d->host);
    while (d->n_texts)
        free(d->texts[--d->n_texts]);
    return 0;
}
