#include "node-agent/observe.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "device-plugin/ids.h"
#include "node-agent/daemon_set.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/pci_ids.h"
#include "node-agent/kube/backoff.h"
#include "node-agent/kubelet/pod_resources.h"

#define POD_RESOURCES_TIMEOUT_MS 5000 /* kubelet answers from memory; its rate limit may queue us */
/* A kubelet that has just started lists the pods that it has heard of so far. Where the agent is a pod itself, that pod
 * tells when the API server's have come; else this long is waited, a healthy API server takes a second. */
#define KUBELET_SETTLED_MS 10000
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000

/* What kubelet gave to a pod. */
struct given {
    char *id, *resource;
    struct pod_ref pod;
};

/* One look under way: two questions at most are open, and whoever answers last ends it. */
struct look {
    const struct workers *workers;
    const struct host *host;
    const struct loop *loop;
    struct memory *memory;
    const struct journal *journal;
    struct worker *worker;
    struct pod_resources_query *query;
    struct loop_timer *soon;
    struct worker_answer holders; /* with its members; valid when holders_answered */
    bool holders_answered;
    bool pods_known, no_socket;
    bool pods_partial; /* kubelet may not know of all pods yet */
    char socket[100];  /* of PodResources, for messages */
    size_t n_given;
    struct given *given; /* of NVIDIA's resources */
    char unknown_why[sizeof((struct observed *)0)->unknown_why];
    void (*cb)(void *arg, int r, const struct observed *observed, const struct err *err);
    void *arg;
};

/* ---- memory ---- */

struct memory_device *memory_find(struct memory *memory, const char *bdf)
{
    for (size_t i = 0; i < memory->n; i++) {
        if (strcmp(memory->devices[i].bdf, bdf) == 0)
            return &memory->devices[i];
    }
    return NULL;
}

struct memory_device *memory_put(struct memory *memory, const struct nv_device *dev)
{
    struct memory_device *m = memory_find(memory, dev->bdf);
    if (m && m->device_id == dev->device_id)
        return m;
    if (!m) {
        if (memory->n == NV_MAX_DEVICES)
            return NULL; /* cannot be: absent devices are forgotten before new ones come */
        m = &memory->devices[memory->n++];
    }
    *m = (struct memory_device){.device_id = dev->device_id};
    (void)snprintf(m->bdf, sizeof m->bdf, "%s", dev->bdf);
    return m;
}

void memory_read(struct memory *memory, const char *bdf, const struct nv_report *report,
                 int64_t now_ms)
{
    struct memory_device *m = memory_find(memory, bdf);
    if (!m)
        return;
    m->report = *report;
    m->report_valid = true;
    m->was_held = false;
    m->busy_tries = 0;
    m->read_at_ms = now_ms;
}

void memory_failed(struct memory *memory, const char *bdf, const char *error, int64_t now_ms)
{
    struct memory_device *m = memory_find(memory, bdf);
    if (!m)
        return;
    struct backoff backoff = {
        .min_ms = RETRY_MIN_MS, .max_ms = RETRY_MAX_MS, .failures = m->failures};
    m->retry_at_ms = now_ms + backoff_next(&backoff, random_u32());
    m->failures = backoff.failures;
    m->report_valid = false; /* what it is now has to be read again */
    (void)snprintf(m->error, sizeof m->error, "%s", error);
}

void memory_succeeded(struct memory *memory, const char *bdf)
{
    struct memory_device *m = memory_find(memory, bdf);
    if (!m)
        return;
    m->failures = m->busy_tries = 0;
    m->retry_at_ms = 0;
    *m->error = '\0';
}

void memory_done(struct memory *memory)
{
    functions_done(&memory->functions);
}

/* A device that went, and came back or not, is a new one. */
static void forget_absent(struct memory *memory, const struct observed *observed)
{
    size_t kept = 0;
    for (size_t i = 0; i < memory->n; i++) {
        bool there = false;
        for (size_t d = 0; d < observed->n && !there; d++)
            there = strcmp(observed->devices[d].dev.bdf, memory->devices[i].bdf) == 0;
        if (there)
            memory->devices[kept++] = memory->devices[i];
    }
    memory->n = kept;
}

/* ---- the host ---- */

static void look_at_host(const struct host *host, struct observed *ret)
{
    struct host_facts facts;
    host_facts_read(host, &facts);
    (void)snprintf(ret->boot_id, sizeof ret->boot_id, "%s", facts.boot_id);
    (void)snprintf(ret->lockdown, sizeof ret->lockdown, "%s", facts.lockdown);
    ret->snp = facts.snp;
    ret->tdx = facts.tdx;
    ret->iommu = facts.iommu;
}

static int take_inventory(const struct host *host, struct memory *memory, struct observed *ret,
                          struct err *err)
{
    AUTO_FREE struct nv_inventory *found = xcalloc(1, sizeof *found);
    int r = inventory_scan(host, &memory->functions, found, err);
    if (r < 0)
        return r;
    ret->n = found->n;
    for (size_t i = 0; i < found->n; i++)
        ret->devices[i].dev = found->devices[i];
    (void)snprintf(ret->unreadable, sizeof ret->unreadable, "%s", found->unreadable);
    return 0;
}

/* ---- who uses what ---- */

static struct observed_device *find(struct observed *observed, const char *bdf)
{
    for (size_t i = 0; i < observed->n; i++) {
        if (strcmp(observed->devices[i].dev.bdf, bdf) == 0)
            return &observed->devices[i];
    }
    return NULL;
}

/* @why: unknown_why of a struct observed or of a look */
static void why_unknown(char *why, const char *what, const char *text)
{
    if (!*why)
        (void)snprintf(why, sizeof((struct observed *)0)->unknown_why, "%s: %.200s", what, text);
}

static const char *member(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

/* Return: false when @one is not what a holder looks like: then there may be users that nobody knows of. */
static bool add_holder(struct observed *observed, struct json_object *one)
{
    struct json_object *pid;
    if (!json_object_is_type(one, json_type_object) || !*member(one, "bdf") ||
        !json_object_object_get_ex(one, "pid", &pid) || !json_object_is_type(pid, json_type_int))
        return false;
    struct observed_device *d = find(observed, member(one, "bdf"));
    if (!d)
        return true; /* gone meanwhile */
    if (d->n_holders < NV_MAX_HOLDERS) {
        struct nv_holder *h = &d->holders[d->n_holders];
        h->pid = json_object_get_int(pid);
        (void)snprintf(h->comm, sizeof h->comm, "%s", member(one, "comm"));
        (void)snprintf(h->what, sizeof h->what, "%s", member(one, "what"));
    }
    d->n_holders++;
    return true;
}

bool observe_holders(struct observed *observed, const struct worker_answer *answer)
{
    struct json_object *list = NULL;
    bool good = answer->ok && answer->members &&
                json_object_object_get_ex(answer->members, "holders", &list) &&
                json_object_is_type(list, json_type_array);
    for (size_t i = 0; good && i < json_object_array_length(list); i++)
        good = add_holder(observed, json_object_array_get_idx(list, i));
    return good;
}

static void finish_if_answered(struct look *look);

static void on_holders(void *arg, const struct worker_answer *answer)
{
    struct look *look = arg;
    look->holders = *answer;
    look->holders.members = json_object_get(answer->members);
    look->holders_answered = true;
    worker_close(look->worker);
    look->worker = NULL;
    finish_if_answered(look);
}

/* Another container of the same pod has it too. */
static bool is_same_gift(const struct observed_device *d, size_t i, const struct given *given)
{
    return strcmp(d->pods[i].name, given->pod.name) == 0 &&
           strcmp(d->pods[i].namespace, given->pod.namespace) == 0 &&
           strcmp(d->given[i].resource, given->resource) == 0 &&
           strcmp(d->given[i].id, given->id) == 0;
}

static void add_pod(struct observed *observed, const struct given *given)
{
    for (size_t i = 0; i < observed->n; i++) {
        struct observed_device *d = &observed->devices[i];
        struct dp_names names = {d->dev.bdf, d->dev.iommu_group, d->dev.cdev};
        if (d->n_pods == NODE_MAX_PODS || !dp_id_names(given->id, &names))
            continue;
        if (d->n_pods > 0 && is_same_gift(d, d->n_pods - 1, given))
            continue;
        struct given_name *name = &d->given[d->n_pods];
        (void)snprintf(name->resource, sizeof name->resource, "%s", given->resource);
        (void)snprintf(name->id, sizeof name->id, "%s", given->id);
        d->pods[d->n_pods++] = given->pod;
    }
}

static void keep_given(struct look *look, const struct pod_list *list)
{
    look->given = xcalloc(list->n + 1, sizeof *look->given);
    for (size_t i = 0; i < list->n; i++) {
        const struct pod_held *held = &list->held[i];
        if (held->claim || strncmp(held->resource, "nvidia.com/", 11) != 0)
            continue;
        struct given *given = &look->given[look->n_given++];
        given->id = xstrdup(held->id);
        given->resource = xstrdup(held->resource);
        (void)snprintf(given->pod.namespace, sizeof given->pod.namespace, "%s", held->namespace_);
        (void)snprintf(given->pod.name, sizeof given->pod.name, "%s", held->pod);
    }
}

static bool lists_own_pod(const struct pod_list *list, const struct daemon_set *own)
{
    for (size_t i = 0; i < list->n_pods; i++) {
        if (strcmp(list->pods[i].namespace_, own->namespace_) == 0 &&
            daemon_set_has_pod(own->name, list->pods[i].pod))
            return true;
    }
    return false;
}

/* Only what an earlier kubelet of this boot gave away can be missing. */
static bool is_partial(struct look *look, const struct pod_list *list)
{
    struct daemon_set own;
    char name[KUBELET_NAME_SIZE];
    int64_t age_ms =
        kubelet_age_ms(&look->memory->kubelet, look->host, look->socket, loop_now_ms(look->loop));
    kubelet_age_name(&look->memory->kubelet, name);
    if (strcmp(look->journal->kubelet, name) == 0)
        return false;
    return daemon_set_own(&own) ? !lists_own_pod(list, &own) : age_ms < KUBELET_SETTLED_MS;
}

static void on_pods(void *arg, int r, const struct pod_list *list, const struct err *err)
{
    struct look *look = arg;
    look->query = NULL;
    /* No socket: no kubelet has run here, so it has given nothing away; unless it took our resources, then the socket is
     * elsewhere (attach_pods() knows). A kubelet that is only away for now has left its socket, and what it gave away
     * is then not known. */
    look->no_socket = r == -ENOENT;
    look->pods_known = r == 0 || look->no_socket;
    if (!look->pods_known)
        why_unknown(look->unknown_why, "kubelet does not say which pods hold devices", err->msg);
    if (r == 0) {
        keep_given(look, list);
        look->pods_partial = is_partial(look, list);
    }
    finish_if_answered(look);
}

static void attach_pods(const struct look *look, struct observed *now)
{
    now->pods_known = look->pods_known;
    now->pods_unasked = look->no_socket && journal_may_have_given(look->journal, now->boot_id);
    if (now->pods_unasked) {
        now->pods_known = false;
        (void)snprintf(now->unknown_why, sizeof now->unknown_why,
                       "kubelet has our devices, and there is no %s to ask which pods hold them; "
                       "set podResources.socket to pod-resources/kubelet.sock below kubelet's "
                       "--root-dir (where kubelet was removed meanwhile, reboot)",
                       look->socket);
    }
    if (look->pods_partial && journal_may_have_given(look->journal, now->boot_id)) {
        now->pods_known = false;
        (void)snprintf(now->unknown_why, sizeof now->unknown_why,
                       "kubelet has just started and may not list every pod yet (it waits for the "
                       "API server)");
    }
    for (size_t i = 0; i < look->n_given; i++)
        add_pod(now, &look->given[i]);
}

/* The answers to the devices that are there now. */
static void attach_users(const struct look *look, struct observed *now)
{
    memcpy(now->unknown_why, look->unknown_why, sizeof now->unknown_why);
    attach_pods(look, now);
    now->holders_known = look->holders_answered && observe_holders(now, &look->holders);
    if (look->holders_answered && !now->holders_known)
        why_unknown(now->unknown_why, "the processes of the host could not be searched",
                    *look->holders.error ? look->holders.error : "the answer is not understood");
}

static void take_over(struct observed *now, const struct observed *previous)
{
    now->holders_known = previous->holders_known;
    now->pods_known = previous->pods_known;
    now->pods_unasked = previous->pods_unasked;
    memcpy(now->unknown_why, previous->unknown_why, sizeof now->unknown_why);
    for (size_t i = 0; i < previous->n; i++) {
        const struct observed_device *old = &previous->devices[i];
        struct observed_device *d = find(now, old->dev.bdf);
        if (!d || d->dev.device_id != old->dev.device_id)
            continue;
        d->n_holders = old->n_holders;
        memcpy(d->holders, old->holders, sizeof d->holders);
        d->n_pods = old->n_pods;
        memcpy(d->pods, old->pods, sizeof d->pods);
        memcpy(d->given, old->given, sizeof d->given);
    }
}

/* ---- what is known of each ---- */

void observe_quarantine(const struct workers *workers, struct memory *memory,
                        struct observed_device *d)
{
    struct memory_device *m = memory_find(memory, d->dev.bdf);
    d->stuck_pid = 0;
    d->quarantined = workers_is_quarantined(workers, d->dev.bdf, &d->stuck_pid);
    if (!m || !m->locked)
        return;
    if (workers_is_locked(workers, d->dev.bdf, &d->stuck_pid)) {
        d->quarantined = true;
        return;
    }
    m->locked = false;
    memory_succeeded(memory, d->dev.bdf);
    d->failures = 0;
    d->retry_at_ms = 0;
    *d->error = '\0';
}

static void tell_use(const struct observed_device *d)
{
    char who[200];
    if (d->n_pods > 0)
        (void)snprintf(who, sizeof who, "pod %.90s/%.100s", d->pods[0].namespace, d->pods[0].name);
    else
        (void)snprintf(who, sizeof who, "%.40s (pid %d, %.100s)", d->holders[0].comm,
                       d->holders[0].pid, d->holders[0].what);
    log_debug("device is in use", "bdf", d->dev.bdf, "by", who, NULL);
}

/* @users_known: what somebody had is still his while it is not known who has what, as when kubelet restarts: the device
 * must not be withdrawn then, or kubelet refuses the pod that has it. */
static void know(struct memory *memory, const struct journal *journal, const char *boot_id,
                 bool users_known, struct observed_device *d)
{
    struct memory_device *m = memory_put(memory, &d->dev);
    if (!m)
        return;
    d->failures = m->failures;
    d->retry_at_ms = m->retry_at_ms;
    (void)snprintf(d->error, sizeof d->error, "%s", m->error);
    d->report = m->report;
    m->released = m->released || d->n_holders > 0 || d->n_pods > 0;
    d->released = m->released;
    if (d->n_holders > 0 || d->n_pods > 0 || (m->was_held && !users_known)) {
        if (!m->was_held)
            tell_use(d);
        m->was_held = true;
        m->busy_tries = 0;
        enum cc_mode mode = journal_verified_mode(journal, &d->dev, boot_id);
        d->knowledge = mode != CC_MODE_UNKNOWN ? KNOWN_JOURNAL : KNOWN_NOT;
        d->report.active = d->report.pending = mode;
        d->report.booted = true;
        *d->report.fault = '\0';
        d->report.capable_modes = 0;
        d->capable_known =
            journal_capable_modes(journal, &d->dev, boot_id, &d->report.capable_modes);
        return;
    }
    if (m->was_held)
        m->report_valid = false; /* whoever had it could do anything with it */
    d->knowledge = m->report_valid ? KNOWN_REGISTERS : KNOWN_NOT;
}

/* Names that the host's database gives are remembered: no update of it renames a resource under running pods. */
static void name_unlisted(const struct host *host, struct memory *memory, struct observed *observed)
{
    struct nv_device *list[NV_MAX_DEVICES];
    size_t n = 0;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < observed->n; i++) {
        struct nv_device *dev = &observed->devices[i].dev;
        const struct memory_device *m = *dev->resource ? NULL : memory_put(memory, dev);
        if (m) {
            memcpy(dev->name, m->name, sizeof dev->name);
            memcpy(dev->resource, m->resource, sizeof dev->resource);
        }
        if (!*dev->resource)
            list[n++] = dev;
    }
    if (n == 0)
        return;
    if (pci_ids_name(host, list, n, &err) < 0)
        log_warning("names of new models are not looked up", "error", err.msg, NULL);
    for (size_t i = 0; i < n; i++) {
        struct memory_device *m = memory_put(memory, list[i]);
        if (m) {
            memcpy(m->name, list[i]->name, sizeof m->name);
            memcpy(m->resource, list[i]->resource, sizeof m->resource);
        }
    }
}

/* @look: who uses what was asked for, else it is taken over from @previous, else nobody knows */
static int observe(const struct workers *workers, const struct host *host, struct memory *memory,
                   const struct journal *journal, const struct look *look,
                   const struct observed *previous, struct observed *ret, struct err *err)
{
    *ret = (struct observed){0};
    int r = take_inventory(host, memory, ret, err);
    if (r < 0)
        return r;
    look_at_host(host, ret);
    if (look)
        attach_users(look, ret);
    else if (previous)
        take_over(ret, previous);
    else
        why_unknown(ret->unknown_why, "not looked at yet", "the agent has just started");
    forget_absent(memory, ret);
    name_unlisted(host, memory, ret);
    for (size_t i = 0; i < ret->n; i++) {
        know(memory, journal, ret->boot_id, ret->holders_known && ret->pods_known,
             &ret->devices[i]);
        observe_quarantine(workers, memory, &ret->devices[i]);
    }
    return 0;
}

int observe_now(const struct workers *workers, const struct host *host, struct memory *memory,
                const struct journal *journal, const struct observed *previous,
                struct observed *ret, struct err *err)
{
    return observe(workers, host, memory, journal, NULL, previous, ret, err);
}

static void free_look(struct look *look)
{
    for (size_t i = 0; i < look->n_given; i++) {
        free(look->given[i].id);
        free(look->given[i].resource);
    }
    free(look->given);
    json_object_put(look->holders.members);
    free(look);
}

static void deliver(void *arg)
{
    struct look *look = arg;
    struct err err = ERR_INIT;
    look->soon = NULL;
    struct observed *now = xcalloc(1, sizeof *now);
    int r = observe(look->workers, look->host, look->memory, look->journal, look, NULL, now, &err);
    look->cb(look->arg, r, r == 0 ? now : NULL, &err);
    free(now);
    free_look(look);
}

static void finish_if_answered(struct look *look)
{
    if (!look->worker && !look->query)
        deliver(look);
}

static void ask_holders(struct look *look, struct workers *workers)
{
    struct err err = ERR_INIT;
    look->worker = worker_open(workers, WORKER_NODE, &err);
    if (look->worker)
        worker_step(look->worker, WORKER_HOLDERS, NULL, on_holders, look);
    else
        why_unknown(look->unknown_why, "the processes of the host could not be searched", err.msg);
}

struct look *observe_start(
    struct workers *workers, const struct host *host, struct loop *loop,
    const struct observe_request *request, struct memory *memory, const struct journal *journal,
    void (*cb)(void *arg, int r, const struct observed *observed, const struct err *err), void *arg)
{
    struct look *look = xcalloc(1, sizeof *look);
    *look = (struct look){
        .workers = workers, .host = host, .loop = loop, .memory = memory, .journal = journal};
    look->cb = cb;
    look->arg = arg;
    look->pods_known = !request->rpc;
    ask_holders(look, workers);
    if (request->rpc)
        (void)snprintf(look->socket, sizeof look->socket, "%s", request->pod_resources_socket);
    if (request->rpc) /* one that restarts while it is asked is seen to be another afterwards */
        (void)kubelet_age_ms(&memory->kubelet, host, look->socket, loop_now_ms(loop));
    if (request->rpc)
        look->query = pod_resources_list(request->rpc, host, request->pod_resources_socket,
                                         POD_RESOURCES_TIMEOUT_MS, on_pods, look);
    if (!look->worker && !look->query)
        look->soon = loop_add_timer(loop, 0, deliver, look);
    return look;
}

void observe_cancel(struct look *look)
{
    if (!look)
        return;
    worker_close(look->worker);
    pod_resources_cancel(look->query);
    loop_cancel(look->soon);
    free_look(look);
}
