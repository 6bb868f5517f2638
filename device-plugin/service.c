#include "device-plugin/service.h"

#include <ctype.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"
#include "device-plugin/preferred.h"
#include "v1beta1.pb-c.h"

#define MAX_CONTAINERS 64         /* of one request; kubelet sends one */
#define BUDGET (16 * 1024 * 1024) /* memory for a request of RPC_MAX_REQUEST bytes */
#define VFIO_CONTAINER "/dev/vfio/vfio"

/* protobuf-c wants text without const and only reads it */
static char *text(const char *t)
{
    char *p;
    memcpy(&p, &t, sizeof p);
    return p;
}

static void answer_with(struct rpc_answer *answer, const ProtobufCMessage *message)
{
    answer->status = RPC_OK;
    answer->data = proto_pack(message, &answer->n);
}

static void answer_error(struct rpc_answer *answer, enum rpc_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void answer_error(struct rpc_answer *answer, enum rpc_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    answer->status = status;
    (void)vsnprintf(answer->text, sizeof answer->text, fmt, args);
    va_end(args);
}

/* ---- list, registration, options ---- */

uint8_t *service_list(const struct offer *offer, size_t *ret_n)
{
    size_t n = offer ? offer->n : 0;
    struct item {
        Dp__Device device;
        Dp__Topology topology;
        Dp__NumaNode node, *nodes;
    };
    AUTO_FREE struct item *items = xcalloc(n + 1, sizeof *items);
    AUTO_FREE Dp__Device **list = xcalloc(n + 1, sizeof(Dp__Device *));
    for (size_t i = 0; i < n; i++) {
        const struct dp_device *d = &offer->devices[i];
        struct item *item = &items[i];
        dp__device__init(&item->device);
        item->device.id = text(d->id);
        item->device.health = text(d->healthy ? "Healthy" : "Unhealthy");
        if (d->numa_node >= 0) {
            dp__topology__init(&item->topology);
            dp__numa_node__init(&item->node);
            item->node.id = d->numa_node;
            item->nodes = &item->node;
            item->topology.n_nodes = 1;
            item->topology.nodes = &item->nodes;
            item->device.topology = &item->topology;
        }
        list[i] = &item->device;
    }
    Dp__ListAndWatchResponse message;
    dp__list_and_watch_response__init(&message);
    message.n_devices = n;
    message.devices = list;
    return proto_pack(&message.base, ret_n);
}

uint8_t *service_register(const char *resource, const char *endpoint, size_t *ret_n)
{
    Dp__Options options;
    dp__options__init(&options);
    Dp__RegisterRequest message;
    dp__register_request__init(&message);
    options.get_preferred_allocation_available = 1;
    message.version = text("v1beta1");
    message.endpoint = text(endpoint);
    message.resource_name = text(resource);
    message.options = &options;
    return proto_pack(&message.base, ret_n);
}

void service_options(struct rpc_answer *answer)
{
    Dp__Options message;
    dp__options__init(&message);
    message.get_preferred_allocation_available = 1;
    answer_with(answer, &message.base);
}

/* ---- preferred allocation ---- */

static void mark(const struct offer *offer, size_t n, const ProtobufCBinaryData *ids,
                 enum preferred_state as, enum preferred_state *state)
{
    for (size_t i = 0; i < n; i++) {
        int k = dp_offer_find(offer, ids[i].data, ids[i].len);
        if (k >= 0 && (as == PREFERRED_TAKEN || offer->devices[k].healthy))
            state[k] = as;
    }
}

static void prefer(const struct offer *offer, const Dp__ContainerPreferredRequest *request,
                   Dp__ContainerPreferredResponse *response, char **room)
{
    enum preferred_state state[DP_MAX_DEVICES] = {PREFERRED_NO};
    mark(offer, request->n_available, request->available, PREFERRED_FREE, state);
    mark(offer, request->n_must_include, request->must_include, PREFERRED_TAKEN, state);
    preferred(offer, state, request->allocation_size > 0 ? (size_t)request->allocation_size : 0);
    dp__container_preferred_response__init(response);
    response->device_ids = room;
    for (size_t i = 0; i < offer->n; i++)
        if (state[i] == PREFERRED_TAKEN)
            response->device_ids[response->n_device_ids++] = text(offer->devices[i].id);
}

void service_preferred(const struct offer *offer, const uint8_t *in, size_t n,
                       struct rpc_answer *answer)
{
    AUTO_PROTO struct proto proto = {0};
    const Dp__PreferredRequest *request =
        proto_unpack(&proto, &dp__preferred_request__descriptor, in, n, BUDGET);
    if (!request || request->n_container_requests > MAX_CONTAINERS) {
        answer_error(answer, RPC_INVALID_ARGUMENT, "GetPreferredAllocation for %s: broken message",
                     offer->name);
        return;
    }
    size_t count = request->n_container_requests;
    AUTO_FREE Dp__ContainerPreferredResponse *responses = xcalloc(count + 1, sizeof *responses);
    AUTO_FREE Dp__ContainerPreferredResponse **list =
        xcalloc(count + 1, sizeof(Dp__ContainerPreferredResponse *));
    AUTO_FREE char **room = xcalloc(count * offer->n + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        prefer(offer, request->container_requests[i], &responses[i], room + i * offer->n);
        list[i] = &responses[i];
    }
    Dp__PreferredResponse message;
    dp__preferred_response__init(&message);
    message.n_container_responses = count;
    message.container_responses = list;
    answer_with(answer, &message.base);
}

/* ---- allocate ---- */

void service_asked_free(struct service_asked *asked)
{
    for (size_t i = 0; i < asked->n; i++)
        free(asked->ids[i]);
    asked->n = 0;
}

/* An id for messages: as text, cut, nothing that could garble a terminal. */
static char *shown(const ProtobufCBinaryData *id)
{
    size_t n = id->len < 80 ? id->len : 80;
    char *ret = xmalloc(n + 1);
    for (size_t i = 0; i < n; i++)
        ret[i] = (char)(isgraph(id->data[i]) ? id->data[i] : '?');
    ret[n] = '\0';
    return ret;
}

static void note_asked(const Dp__AllocateRequest *request, struct service_asked *asked)
{
    for (size_t i = 0; i < request->n_container_requests; i++) {
        const Dp__ContainerAllocateRequest *container = request->container_requests[i];
        for (size_t k = 0; k < container->n_device_ids && asked->n < DP_MAX_DEVICES; k++)
            asked->ids[asked->n++] = shown(&container->device_ids[k]);
    }
}

/* One device: known, not asked for before, healthy, and fine right now. */
static bool check(const struct offer *offer, const struct dp_options *options,
                  const ProtobufCBinaryData *id, bool used[DP_MAX_DEVICES],
                  struct rpc_answer *answer)
{
    int k = dp_offer_find(offer, id->data, id->len);
    if (k < 0) {
        AUTO_FREE char *name = shown(id);
        answer_error(answer, RPC_INVALID_ARGUMENT, "unknown device %s of %s", name, offer->name);
        return false;
    }
    const struct dp_device *d = &offer->devices[k];
    if (used[k]) {
        answer_error(answer, RPC_INVALID_ARGUMENT, "device %s of %s is asked for twice", d->id,
                     offer->name);
        return false;
    }
    used[k] = true;
    char why[DP_MAX_REASON] = "";
    if (d->healthy &&
        (!options->may_allocate || options->may_allocate(options->arg, offer->name, d->id, why)))
        return true;
    why[sizeof why - 1] = '\0';
    const char *reason = d->healthy ? why : d->reason;
    answer_error(answer, RPC_FAILED_PRECONDITION, "device %s of %s cannot be given away: %s", d->id,
                 offer->name, reason[0] ? reason : "it is not healthy");
    return false;
}

static bool check_all(const struct offer *offer, const struct dp_options *options,
                      const Dp__AllocateRequest *request, struct rpc_answer *answer)
{
    bool used[DP_MAX_DEVICES] = {false};
    if (request->n_container_requests == 0) {
        answer_error(answer, RPC_INVALID_ARGUMENT, "Allocate for %s: no container", offer->name);
        return false;
    }
    for (size_t i = 0; i < request->n_container_requests; i++) {
        const Dp__ContainerAllocateRequest *container = request->container_requests[i];
        if (container->n_device_ids == 0) {
            answer_error(answer, RPC_INVALID_ARGUMENT,
                         "Allocate for %s: a container without devices", offer->name);
            return false;
        }
        if (offer->only_together && container->n_device_ids < offer->n) {
            answer_error(answer, RPC_FAILED_PRECONDITION,
                         "%s: %zu of %zu devices asked for, only all together can be had: %s",
                         offer->name, container->n_device_ids, offer->n, offer->only_together);
            return false;
        }
        for (size_t k = 0; k < container->n_device_ids; k++)
            if (!check(offer, options, &container->device_ids[k], used, answer))
                return false;
    }
    return true;
}

/* What one container gets, with the memory behind it. */
struct grant {
    Dp__ContainerAllocateResponse response;
    Dp__Env env, *envs;
    Dp__DeviceSpec *specs, **spec_list;
    Dp__CdiDevice *cdi, **cdi_list;
    char *key, *bdfs;
};

static void grant_free(struct grant *g)
{
    free(g->specs);
    free(g->spec_list);
    free(g->cdi);
    free(g->cdi_list);
    free(g->key);
    free(g->bdfs);
}

/* The same node once: two devices may share a group. Permissions as NVIDIA/sandbox-device-plugin. */
static void grant_node(struct grant *g, const char *node)
{
    for (size_t i = 0; i < g->response.n_devices; i++)
        if (strcmp(g->specs[i].host_path, node) == 0)
            return;
    size_t i = g->response.n_devices++;
    dp__device_spec__init(&g->specs[i]);
    g->specs[i].container_path = text(node);
    g->specs[i].host_path = text(node);
    g->specs[i].permissions = text("mrw");
    g->spec_list[i] = &g->specs[i];
}

/* "PCI_RESOURCE_NVIDIA_COM_GH100_H100_PCIE": kubevirt/kubevirt pkg/util (ResourceNameToEnvVar). */
static char *env_key(const char *resource)
{
    char *key = xasprintf("PCI_RESOURCE_%s", resource);
    for (char *p = key; *p; p++)
        *p = (char)(*p == '/' || *p == '.' ? '_' : toupper((unsigned char)*p));
    return key;
}

static void grant_device(struct grant *g, const struct dp_device *d)
{
    if (strncmp(d->node, "/dev/vfio/devices/", 18) != 0)
        grant_node(g, VFIO_CONTAINER);
    grant_node(g, d->node);
    if (d->cdi) {
        size_t i = g->response.n_cdi_devices++;
        dp__cdi_device__init(&g->cdi[i]);
        g->cdi[i].name = text(d->cdi);
        g->cdi_list[i] = &g->cdi[i];
    }
    char *longer = xasprintf("%s%s%s", g->bdfs, g->bdfs[0] && d->bdfs[0] ? "," : "", d->bdfs);
    free(g->bdfs);
    g->bdfs = longer;
}

static void grant_make(struct grant *g, const struct offer *offer,
                       const Dp__ContainerAllocateRequest *container)
{
    size_t n = container->n_device_ids;
    dp__container_allocate_response__init(&g->response);
    g->specs = xcalloc(n + 1, sizeof *g->specs);
    g->spec_list = xcalloc(n + 1, sizeof(Dp__DeviceSpec *));
    g->cdi = xcalloc(n, sizeof *g->cdi);
    g->cdi_list = xcalloc(n, sizeof(Dp__CdiDevice *));
    g->response.devices = g->spec_list;
    g->response.cdi_devices = g->cdi_list;
    g->key = env_key(offer->name);
    g->bdfs = xstrdup("");
    for (size_t i = 0; i < n; i++) {
        int k = dp_offer_find(offer, container->device_ids[i].data, container->device_ids[i].len);
        grant_device(g, &offer->devices[k]);
    }
    dp__env__init(&g->env);
    g->env.key = g->key;
    g->env.value = g->bdfs;
    g->envs = &g->env;
    g->response.n_envs = g->bdfs[0] ? 1 : 0;
    g->response.envs = &g->envs;
}

static void answer_grants(const struct offer *offer, const Dp__AllocateRequest *request,
                          struct rpc_answer *answer)
{
    size_t n = request->n_container_requests;
    AUTO_FREE struct grant *grants = xcalloc(n, sizeof *grants);
    AUTO_FREE Dp__ContainerAllocateResponse **list =
        xcalloc(n, sizeof(Dp__ContainerAllocateResponse *));
    for (size_t i = 0; i < n; i++) {
        grant_make(&grants[i], offer, request->container_requests[i]);
        list[i] = &grants[i].response;
    }
    Dp__AllocateResponse message;
    dp__allocate_response__init(&message);
    message.n_container_responses = n;
    message.container_responses = list;
    answer_with(answer, &message.base);
    for (size_t i = 0; i < n; i++)
        grant_free(&grants[i]);
}

void service_allocate(const struct offer *offer, const struct dp_options *options,
                      const uint8_t *in, size_t n, struct rpc_answer *answer,
                      struct service_asked *asked)
{
    AUTO_PROTO struct proto proto = {0};
    asked->n = 0;
    const Dp__AllocateRequest *request =
        proto_unpack(&proto, &dp__allocate_request__descriptor, in, n, BUDGET);
    if (!request || request->n_container_requests > MAX_CONTAINERS) {
        answer_error(answer, RPC_INVALID_ARGUMENT, "Allocate for %s: broken message", offer->name);
        return;
    }
    note_asked(request, asked);
    if (check_all(offer, options, request, answer))
        answer_grants(offer, request, answer);
}
