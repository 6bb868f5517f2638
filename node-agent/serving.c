#include "node-agent/serving.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"
#include "node-agent/naming.h"

#define CLOSED_MS 1000 /* so long a look at Allocate counts */

/* One device in the list of its resource. */
struct item {
    char bdf[BDF_SIZE];
    char resource[80];
    char id[64];
    char bdfs[128]; /* of all functions under that id */
    char node[48];
    char cdi[160];
    char pcie_switch[BDF_SIZE];
    char partition[64];
    char reason[DP_MAX_REASON];
    char driver[32];
    int numa_node;
    int iommu_group;
    char cdev[24];
    int dir_fd;        /* O_PATH of its sysfs directory: the last check before it is given away */
    int enable_fd;     /* of its attribute "enable", opened by the first Allocate */
    int64_t closed_ms; /* when nobody had opened it; 0 = not looked */
    bool idle;         /* at the last look nobody had it */
    bool is_switch;
    bool healthy;
    bool objection;  /* as wanted, and yet not healthy: the reason is news */
    bool resolvable; /* its CDI entry was read back from disk */
};

struct serving {
    struct serving_options options;
    struct dp *dp;    /* NULL until it is wanted first */
    char *directory;  /* of the plugin, as given to dp_new() */
    bool plugin, cdi; /* as the configuration of the last serving_set() */
    struct cdi_reader *reader;
    struct cdi_specs on_disk; /* as the last serving_set() left them, in cdi_dir */
    char *cdi_dir;
    bool cdi_waits; /* for a foreign file to go */
    size_t n;
    struct item items[NV_MAX_DEVICES];
};

static struct item *find_item(struct serving *serving, const char *bdf)
{
    for (size_t i = 0; i < serving->n; i++) {
        if (strcmp(serving->items[i].bdf, bdf) == 0)
            return &serving->items[i];
    }
    return NULL;
}

static const struct item *find_const(const struct serving *serving, const char *bdf)
{
    for (size_t i = 0; i < serving->n; i++) {
        if (strcmp(serving->items[i].bdf, bdf) == 0)
            return &serving->items[i];
    }
    return NULL;
}

/* ---- Allocate: the last look ---- */

/* Reading one attribute neither wakes the device nor gets in anybody's way, as opening its group would. Whose process it is
 * needs a search: so it counts only when nobody had it at the last look. The VM of a pod that has just ended may still be
 * closing it, and the next pod's VM is simply tried again by kubelet. */
static bool is_open(const struct serving *serving, struct item *item)
{
    char count = '0'; /* its first digit */
    int64_t now_ms = loop_now_ms(serving->options.loop);
    if (item->closed_ms != 0 && now_ms - item->closed_ms < CLOSED_MS)
        return false;
    if (item->enable_fd < 0)
        item->enable_fd = openat(item->dir_fd, "enable", O_RDONLY | O_CLOEXEC);
    bool open = item->enable_fd >= 0 && pread(item->enable_fd, &count, 1, 0) == 1 && count != '0';
    item->closed_ms = open ? 0 : now_ms;
    return open;
}

static bool is_still_good(const struct serving *serving, struct item *item, char *why)
{
    char link[128];
    ssize_t n = item->dir_fd < 0 ? -1 : readlinkat(item->dir_fd, "driver", link, sizeof link - 1);
    link[n > 0 ? n : 0] = '\0';
    const char *driver = strrchr(link, '/') ? strrchr(link, '/') + 1 : link;
    if (strcmp(driver, item->driver) != 0) {
        (void)snprintf(why, DP_MAX_REASON, "%s is bound to %s, not to %s, at the moment", item->bdf,
                       *driver ? driver : "no driver", item->driver);
        return false;
    }
    if (faccessat(serving->options.host->root_fd, item->node + 1, F_OK, 0) < 0) {
        (void)snprintf(why, DP_MAX_REASON, "%s of %s does not exist at the moment", item->node,
                       item->bdf);
        return false;
    }
    if (item->idle && is_open(serving, item)) {
        (void)snprintf(why, DP_MAX_REASON,
                       "%s is open in a process that kubelet did not give it to", item->bdf);
        return false;
    }
    return true;
}

static bool may_allocate(void *arg, const char *resource, const char *id, char why[DP_MAX_REASON])
{
    struct serving *serving = arg;
    bool found = false;
    for (size_t i = 0; i < serving->n; i++) {
        struct item *item = &serving->items[i];
        if (strcmp(item->id, id) != 0 || strcmp(item->resource, resource) != 0)
            continue;
        found = true;
        if (!item->healthy) {
            (void)snprintf(why, DP_MAX_REASON, "%s: %.200s", item->bdf,
                           *item->reason ? item->reason : "it is not ready");
            return false;
        }
        if (!is_still_good(serving, item, why))
            return false;
    }
    if (!found)
        (void)snprintf(why, DP_MAX_REASON, "there is no device %.80s", id);
    return found;
}

static void on_dp_event(void *arg, const struct dp_event *event)
{
    const struct serving *serving = arg;
    serving->options.on_event(serving->options.arg, event);
}

/* ---- life ---- */

struct serving *serving_new(const struct serving_options *options)
{
    struct serving *serving = xcalloc(1, sizeof *serving);
    serving->options = *options;
    serving->reader = cdi_reader_new(options->host);
    return serving;
}

static void close_item(struct item *item)
{
    if (item->dir_fd >= 0)
        (void)close(item->dir_fd);
    if (item->enable_fd >= 0)
        (void)close(item->enable_fd);
    item->dir_fd = item->enable_fd = -1;
}

void serving_free(struct serving *serving)
{
    if (!serving)
        return;
    dp_free(serving->dp);
    for (size_t i = 0; i < serving->n; i++)
        close_item(&serving->items[i]);
    cdi_reader_free(serving->reader);
    cdi_specs_free(&serving->on_disk);
    free(serving->cdi_dir);
    free(serving->directory);
    free(serving);
}

void serving_stop(struct serving *serving, enum dp_stop how, void (*done)(void *arg), void *arg)
{
    if (serving->dp)
        dp_stop(serving->dp, how, done, arg);
    else
        done(arg);
}

/* ---- lists ---- */

/* Upstream port of the PCIe switch that the device hangs below: the third name from the end of its real path. */
static void find_switch(const struct host *host, const char *bdf, char ret[BDF_SIZE])
{
    struct err ignored = ERR_INIT;
    char path[512];
    AUTO_CLOSE int dir = host_open_dir(host, "/sys/bus/pci/devices", &ignored);
    *ret = '\0';
    if (dir < 0 || fs_read_link(dir, bdf, path, sizeof path, &ignored) < 0)
        return;
    const char *parts[3] = {"", "", ""};
    for (char *save = NULL, *part = strtok_r(path, "/", &save); part;
         part = strtok_r(NULL, "/", &save)) {
        parts[0] = parts[1];
        parts[1] = parts[2];
        parts[2] = part;
    }
    if (strlen(parts[0]) < BDF_SIZE && strncmp(parts[0], "pci", 3) != 0)
        (void)snprintf(ret, BDF_SIZE, "%.15s", parts[0]);
}

/* What keeps a device from being offered that is as wanted otherwise. */
static void object(const struct observed_device *seen, const struct device_plan *plan,
                   struct item *item)
{
    const struct nv_device *dev = &seen->dev;
    item->objection = true;
    if (!dev->driver_is_vfio)
        (void)snprintf(item->reason, sizeof item->reason,
                       "it is bound to %s, not to VFIO, and vfio.manage is false",
                       *dev->driver ? dev->driver : "no driver");
    else if (!*dev->cdev && !dev->group_node)
        (void)snprintf(item->reason, sizeof item->reason,
                       "%s is missing; bind it anew, or look why udev removed it", item->node);
    else if (seen->n_holders > 0)
        (void)snprintf(item->reason, sizeof item->reason,
                       "a process that belongs to no pod uses it");
    else /* what the plan holds back says why */
        item->objection = *plan->reason != '\0';
}

static void explain(const struct observed_device *seen, const struct device_plan *plan,
                    const struct device_intent *wish, struct item *item)
{
    const char *text = "its mode is not verified yet";
    if (*seen->error && plan->decision != DECISION_BUSY && plan->decision != DECISION_REFUSED)
        text = seen->error;
    else if (*plan->reason)
        text = plan->reason;
    else if (plan->decision == DECISION_CHANGE)
        text = wish->mode == CC_MODE_UNKNOWN ? "its driver is being changed"
                                             : "its mode is being changed";
    (void)snprintf(item->reason, sizeof item->reason, "%.250s", text);
    if (plan->decision == DECISION_IN_PLACE)
        object(seen, plan, item);
}

static bool belongs_in_list(const struct intent *intent, const struct observed_device *seen,
                            size_t i)
{
    return intent->devices[i].managed && !intent->hands_off && !intent->stand_back.plugin &&
           seen->dev.iommu_group >= 0 && (intent->serve || seen->dev.driver_is_vfio);
}

static void fill_item(struct serving *serving, const struct config *config,
                      const struct observed_device *seen, struct item *item)
{
    const struct nv_device *dev = &seen->dev;
    (void)snprintf(item->bdf, sizeof item->bdf, "%s", dev->bdf);
    naming_resource(config, dev, item->resource, sizeof item->resource);
    (void)snprintf(item->driver, sizeof item->driver, "%s", dev->driver);
    (void)snprintf(item->cdev, sizeof item->cdev, "%s", dev->cdev);
    item->numa_node = dev->numa_node;
    item->is_switch = dev->kind == NV_KIND_NVSWITCH;
    item->iommu_group = dev->iommu_group;
    if (*dev->cdev)
        (void)snprintf(item->node, sizeof item->node, "/dev/vfio/devices/%s", dev->cdev);
    else
        (void)snprintf(item->node, sizeof item->node, "/dev/vfio/%d", dev->iommu_group);

    /* A number is known only while it is bound; meanwhile it keeps the one that kubelet has seen. */
    struct item *old = find_item(serving, dev->bdf);
    if (old && *old->id && !dev->driver_is_vfio)
        (void)snprintf(item->id, sizeof item->id, "%s", old->id);
    else
        naming_id(config, dev, item->id, sizeof item->id);
    if (old)
        (void)snprintf(item->pcie_switch, sizeof item->pcie_switch, "%s", old->pcie_switch);
    else
        find_switch(serving->options.host, dev->bdf, item->pcie_switch);
    (void)snprintf(item->cdi, sizeof item->cdi, "%s=%s", item->resource, item->id);

    char path[64];
    struct err ignored = ERR_INIT;
    (void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%s", dev->bdf);
    item->dir_fd = host_open_dir(serving->options.host, path, &ignored);
}

/* A pod that got it under another name or id: for kubelet what we would offer now is one more device, and it would give
 * the same one away twice (M-ID-2). */
static bool is_given_otherwise(const struct observed_device *seen, const struct item *item,
                               char ret[DP_MAX_REASON])
{
    for (size_t i = 0; i < seen->n_pods; i++) {
        const struct given_name *given = &seen->given[i];
        if (strcmp(given->resource, item->resource) == 0 && strcmp(given->id, item->id) == 0)
            continue;
        (void)snprintf(ret, DP_MAX_REASON, "pod %.60s/%.80s has it as %.60s %.40s until it ends",
                       seen->pods[i].namespace, seen->pods[i].name, given->resource, given->id);
        return true;
    }
    return false;
}

static size_t make_items(struct serving *serving, const struct config *config,
                         const struct intent *intent, const struct observed *observed,
                         const struct plan *plan, struct item items[static NV_MAX_DEVICES])
{
    size_t n = 0;
    const char *partitions[NV_MAX_DEVICES];
    AUTO_FREE struct nv_device *devices = xcalloc(observed->n + 1, sizeof *devices);
    for (size_t i = 0; i < observed->n; i++)
        devices[i] = observed->devices[i].dev;
    naming_partitions(config, devices, observed->n, partitions);
    for (size_t i = 0; i < observed->n; i++) {
        const struct observed_device *seen = &observed->devices[i];
        const struct nv_device *dev = &seen->dev;
        if (!belongs_in_list(intent, seen, i))
            continue;
        struct item *item = &items[n++];
        *item = (struct item){.dir_fd = -1, .enable_fd = -1};
        fill_item(serving, config, seen, item);
        (void)snprintf(item->partition, sizeof item->partition, "%s",
                       partitions[i] ? partitions[i] : "");
        bool no_pod = seen->n_pods == 0 && observed->pods_known;
        item->idle = seen->n_holders == 0 && no_pod;
        bool foreign = seen->n_holders > 0 && no_pod;
        bool node_there = *dev->cdev || dev->group_node;
        item->healthy = plan->devices[i].serve && dev->driver_is_vfio && node_there && !foreign;
        if (!item->healthy)
            explain(seen, &plan->devices[i], &intent->devices[i], item);
        else if (serving->plugin)
            item->healthy = !(item->objection = is_given_otherwise(seen, item, item->reason));
    }
    return n;
}

static int by_resource_and_id(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int r = strcmp(x->resource, y->resource);
    r = r ? r : strcmp(x->id, y->id);
    return r ? r : strcmp(x->bdf, y->bdf);
}

/* Several functions of one group under one number are one device for kubelet: healthy when all are. */
static size_t merge_into(struct dp_device *devices, struct item *items, size_t n, size_t *used)
{
    struct item *first = &items[0];
    size_t len = (size_t)snprintf(first->bdfs, sizeof first->bdfs, "%s", first->bdf);
    size_t k = 1;
    bool healthy = first->healthy;
    for (; k < n && strcmp(items[k].resource, first->resource) == 0 &&
           strcmp(items[k].id, first->id) == 0;
         k++) {
        if (len + BDF_SIZE + 1 < sizeof first->bdfs)
            len +=
                (size_t)snprintf(first->bdfs + len, sizeof first->bdfs - len, ",%s", items[k].bdf);
        healthy = healthy && items[k].healthy;
    }
    devices[(*used)++] = (struct dp_device){
        .id = first->id,
        .healthy = healthy,
        .reason = first->reason,
        .numa_node = first->numa_node,
        .node = first->node,
        .bdfs = first->bdfs,
        .partition = first->partition,
        .pcie_switch = first->pcie_switch,
    };
    return k;
}

/* @both: only what is healthy in the old items too; the new ones wait until CDI resolves them */
static int send_lists(struct serving *serving, const struct config *config, bool both,
                      struct err *err)
{
    if (!serving->dp)
        return 0;
    if (!serving->plugin)
        return dp_set(serving->dp, NULL, 0, err);
    struct item *items = xcalloc(NV_MAX_DEVICES, sizeof *items);
    struct dp_device *devices = xcalloc(NV_MAX_DEVICES, sizeof *devices);
    struct dp_resource *resources = xcalloc(NV_MAX_DEVICES, sizeof *resources);
    size_t n_resources = 0, used = 0;
    memcpy(items, serving->items, sizeof serving->items);
    qsort(items, serving->n, sizeof *items, by_resource_and_id);
    for (size_t i = 0; i < serving->n;) {
        if (both)
            items[i].healthy = items[i].healthy && items[i].resolvable;
        struct dp_resource *last = n_resources > 0 ? &resources[n_resources - 1] : NULL;
        if (!last || strcmp(last->name, items[i].resource) != 0) {
            last = &resources[n_resources++];
            *last = (struct dp_resource){.name = items[i].resource, .devices = &devices[used]};
            if (items[i].is_switch)
                last->only_together = "a VM with some of the node's NVSwitches switches itself off";
        }
        size_t before = used;
        i += merge_into(devices, &items[i], serving->n - i, &used);
        if (config->cdi_devices)
            devices[before].cdi = items[i - 1].cdi;
        last->n++;
    }
    int r = dp_set(serving->dp, resources, n_resources, err);
    free(resources);
    free(devices);
    free(items);
    return r;
}

/* Every managed device, also the withdrawn ones: the numbers of the others must not move. */
static size_t cdi_devices(const struct serving *serving, const struct config *config,
                          const struct intent *intent, const struct observed *observed,
                          struct cdi_device devices[static NV_MAX_DEVICES])
{
    size_t n = 0;
    for (size_t i = 0; i < observed->n; i++) {
        const struct nv_device *dev = &observed->devices[i].dev;
        const struct item *item = find_const(serving, dev->bdf);
        char resource[sizeof item->resource], id[sizeof item->id];
        if (!intent->devices[i].managed)
            continue;
        naming_resource(config, dev, resource, sizeof resource);
        naming_id(config, dev, id, sizeof id);
        naming_cdi(dev, resource, item ? item->id : id, &devices[n]);
        devices[n++].withdrawn = !item || !item->healthy;
    }
    return n;
}

/* Whether "resource=id" resolves is a matter of the kind that is called like the resource, and of no other. The file on
 * disk counts, not that it was written. */
static int verify(struct serving *serving, const struct config *config,
                  const struct cdi_specs *specs, const char *class, const struct item *item,
                  struct err *err)
{
    const struct cdi_spec *spec = cdi_specs_find(specs, class);
    if (spec && spec->err.code != 0) {
        *err = spec->err;
        return -spec->err.code;
    }
    return cdi_reader_check(serving->reader, config->cdi_directory, class, item->id, item->node,
                            err);
}

static int judge_items(struct serving *serving, const struct config *config,
                       const struct cdi_specs *specs, struct err *err)
{
    int first = 0;
    (void)cdi_reader_update(serving->reader);
    for (size_t i = 0; i < serving->n; i++) {
        struct item *item = &serving->items[i];
        const char *class = strchr(item->resource, '/') + 1;
        struct err own = ERR_INIT, indexed = ERR_INIT;
        if (!item->healthy)
            continue;
        int r = verify(serving, config, specs, class, item, &own);
        item->healthy = item->resolvable = r == 0;
        if (r < 0)
            (void)snprintf(item->reason, sizeof item->reason, "%.250s", own.msg);
        else if (!item->is_switch)
            r = verify(serving, config, specs, NAMING_INDEXED_CLASS, item, &indexed);
        if (r < 0 && first == 0) {
            first = r;
            *err = own.code != 0 ? own : indexed;
        }
    }
    return first;
}

/* A file that says what it said, and had to be written again: somebody has changed or removed it. */
static void tell_restored(struct serving *serving, const struct config *config,
                          struct cdi_specs *specs)
{
    bool same_dir = serving->cdi_dir && strcmp(serving->cdi_dir, config->cdi_directory) == 0;
    for (size_t i = 0; same_dir && i < specs->n; i++) {
        const struct cdi_spec *now = &specs->specs[i];
        const struct cdi_spec *old = cdi_specs_find(&serving->on_disk, now->class);
        if (now->written && old && old->err.code == 0 && strcmp(old->text, now->text) == 0)
            serving->options.on_restored(serving->options.arg, config->cdi_directory, now->file);
    }
    free(serving->cdi_dir);
    serving->cdi_dir = xstrdup(config->cdi_directory);
    cdi_specs_free(&serving->on_disk);
    serving->on_disk = *specs;
    *specs = (struct cdi_specs){0};
}

static int write_cdi(struct serving *serving, const struct config *config,
                     const struct intent *intent, const struct observed *observed, struct err *err)
{
    struct cdi_specs specs = {0};
    struct cdi_device *devices = xcalloc(NV_MAX_DEVICES, sizeof *devices);
    struct err sync_err = ERR_INIT, item_err = ERR_INIT;
    size_t n = cdi_devices(serving, config, intent, observed, devices);
    int r = cdi_build(devices, n, &specs, err);
    int r_sync = cdi_sync(serving->options.host, config->cdi_directory, &specs,
                          naming_cdi_durable(config->cdi_directory), NULL, &sync_err);
    int r_item = judge_items(serving, config, &specs, &item_err);
    if (r == 0)
        *err = r_sync < 0 ? sync_err : item_err;
    serving->cdi_waits = r_sync == -EEXIST;
    tell_restored(serving, config, &specs);
    free(devices);
    return r < 0 ? r : r_sync < 0 ? r_sync : r_item;
}

bool serving_cdi_stale(struct serving *serving)
{
    return serving->cdi && (cdi_reader_update(serving->reader) || serving->cdi_waits);
}

static void all_resolve(struct serving *serving)
{
    for (size_t i = 0; i < serving->n; i++)
        serving->items[i].resolvable = serving->items[i].healthy;
}

/* The plugin is made when it is wanted first. One that is not wanted any more offers nothing: an endpoint that goes without
 * a word keeps its capacity at kubelet for five minutes. */
static void have_plugin(struct serving *serving, const struct config *config)
{
    serving->plugin = config->plugin_enabled && serving->options.rpc;
    if (!serving->plugin || serving->dp)
        return;
    serving->directory = xstrdup(config->plugin_directory);
    struct dp_options options = {
        .host = serving->options.host,
        .directory = serving->directory,
        .may_allocate = may_allocate,
        .on_event = on_dp_event,
        .arg = serving,
    };
    serving->dp = dp_new(serving->options.loop, serving->options.rpc, &options);
}

int serving_set(struct serving *serving, const struct config *config, const struct intent *intent,
                const struct observed *observed, const struct plan *plan, struct err *err)
{
    have_plugin(serving, config);
    serving->cdi = config->cdi_enabled;
    struct item *items = xcalloc(NV_MAX_DEVICES, sizeof *items);
    size_t n = make_items(serving, config, intent, observed, plan, items);
    for (size_t i = 0; i < n; i++) {
        const struct item *old = find_item(serving, items[i].bdf);
        items[i].resolvable = old && old->resolvable && items[i].healthy &&
                              strcmp(old->cdi, items[i].cdi) == 0 &&
                              strcmp(old->node, items[i].node) == 0;
    }
    for (size_t i = 0; i < serving->n; i++)
        close_item(&serving->items[i]);
    memcpy(serving->items, items, sizeof serving->items);
    serving->n = n;
    free(items);

    int r = send_lists(serving, config, true, err);
    struct err cdi_err = ERR_INIT;
    int r_cdi = 0;
    if (config->cdi_enabled)
        r_cdi = write_cdi(serving, config, intent, observed, &cdi_err);
    else
        all_resolve(serving);
    if (r == 0 && r_cdi < 0)
        *err = cdi_err;
    struct err second = ERR_INIT;
    int r_lists = send_lists(serving, config, false, &second);
    if (r == 0 && r_cdi == 0 && r_lists < 0)
        *err = second;
    return r < 0 ? r : r_cdi < 0 ? r_cdi : r_lists;
}

bool serving_wants(const struct serving *serving, const char *bdf)
{
    const struct item *item = find_const(serving, bdf);
    return item && item->healthy && item->resolvable;
}

const char *serving_objection(const struct serving *serving, const char *bdf)
{
    const struct item *item = find_const(serving, bdf);
    return item && item->objection ? item->reason : "";
}

bool serving_has(const struct serving *serving, const char *bdf)
{
    const struct item *item = find_const(serving, bdf);
    return item && item->healthy && item->resolvable &&
           (!serving->plugin || dp_registered(serving->dp, item->resource));
}

void serving_register_again(struct serving *serving, const char *resource)
{
    if (serving->dp)
        dp_register_again(serving->dp, resource,
                          "another device plugin has registered the resource");
}

static bool kubelet_has(const struct pod_list *list, const struct item *item)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->held[i].resource, item->resource) == 0 &&
            strcmp(list->held[i].id, item->id) == 0)
            return true;
    }
    return false;
}

/* Return: @held is of a resource of ours, and not ours. */
static bool is_foreign(const struct serving *serving, const struct pod_held *held)
{
    bool our_resource = false;
    for (size_t i = 0; i < serving->n; i++) {
        const struct item *item = &serving->items[i];
        if (strcmp(item->resource, held->resource) != 0)
            continue;
        if (strcmp(item->id, held->id) == 0)
            return false;
        our_resource = true;
    }
    return our_resource && dp_registered(serving->dp, held->resource);
}

enum serving_seen serving_compare(const struct serving *serving, const struct pod_list *list,
                                  char resource[static 80], char *what, size_t room)
{
    if (!serving->plugin)
        return SERVING_AS_OFFERED;
    for (size_t i = 0; i < list->n; i++) {
        const struct pod_held *held = &list->held[i];
        if (!is_foreign(serving, held))
            continue;
        (void)snprintf(resource, 80, "%.79s", held->resource);
        (void)snprintf(what, room, "a device %.100s that is not ours", held->id);
        return SERVING_FOREIGN;
    }
    for (size_t i = 0; i < serving->n; i++) {
        const struct item *item = &serving->items[i];
        if (!item->healthy || !item->resolvable || !dp_registered(serving->dp, item->resource) ||
            kubelet_has(list, item))
            continue;
        (void)snprintf(resource, 80, "%.79s", item->resource);
        (void)snprintf(what, room, "not our device %s", item->id);
        return SERVING_MISSING;
    }
    return SERVING_AS_OFFERED;
}
