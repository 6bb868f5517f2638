#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"
#include "node-agent/kubelet/pod_resources.h"
#include "podresources.pb-c.h"

#define MAX_ANSWER (16 * 1024 * 1024)

struct pod_resources_query {
    struct rpc_call *call;
    void (*list_cb)(void *arg, int r, const struct pod_list *list, const struct err *err);
    void (*get_cb)(void *arg, enum pod_resources_get get, const struct err *err);
    void *arg;
};

static struct pod_resources_query *ask(struct rpc *rpc, const struct host *host, const char *socket,
                                       int timeout_ms, const char *method, const uint8_t *data,
                                       size_t n, struct pod_resources_query *query,
                                       void (*cb)(void *arg, const struct rpc_result *result))
{
    struct rpc_request request = {.host = host,
                                  .socket = socket,
                                  .method = method,
                                  .data = data,
                                  .n = n,
                                  .timeout_ms = timeout_ms,
                                  .max_answer = MAX_ANSWER};
    query->call = rpc_call(rpc, &request, cb, query);
    return query;
}

static void answered(void *arg, const struct rpc_result *result,
                     int (*decode)(const uint8_t *data, size_t n, struct pod_list *ret,
                                   struct err *err))
{
    AUTO_FREE struct pod_resources_query *query = arg;
    struct pod_list list = {0};
    struct err err = result->err;
    int r = result->r;
    if (r == 0)
        r = decode(result->data, result->n, &list, &err);
    query->list_cb(query->arg, r, r < 0 ? NULL : &list, &err);
    pod_list_free(&list);
}

static void list_answered(void *arg, const struct rpc_result *result)
{
    answered(arg, result, pod_list_decode);
}

static void allocatable_answered(void *arg, const struct rpc_result *result)
{
    answered(arg, result, pod_allocatable_decode);
}

struct pod_resources_query *pod_resources_allocatable(
    struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
    void (*cb)(void *arg, int r, const struct pod_list *list, const struct err *err), void *arg)
{
    struct pod_resources_query *query = xcalloc(1, sizeof *query);
    *query = (struct pod_resources_query){.list_cb = cb, .arg = arg};
    return ask(rpc, host, socket, timeout_ms, "/v1.PodResourcesLister/GetAllocatableResources",
               NULL, 0, query, allocatable_answered);
}

struct pod_resources_query *
pod_resources_list(struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
                   void (*cb)(void *arg, int r, const struct pod_list *list, const struct err *err),
                   void *arg)
{
    struct pod_resources_query *query = xcalloc(1, sizeof *query);
    *query = (struct pod_resources_query){.list_cb = cb, .arg = arg};
    return ask(rpc, host, socket, timeout_ms, "/v1.PodResourcesLister/List", NULL, 0, query,
               list_answered);
}

/* Old kubelets: UNIMPLEMENTED. Gate off: the texts seen are "PodResources API Get method disabled" and
 * "podresources Get: feature gate … is disabled" (kubernetes/kubernetes pkg/kubelet/apis/podresources/server_v1.go). */
static enum pod_resources_get judge(const struct rpc_result *result)
{
    if (result->r == 0 || (result->r == -EREMOTEIO && result->status == RPC_NOT_FOUND))
        return POD_RESOURCES_GET_WORKS;
    if (result->r == -ENOSYS)
        return POD_RESOURCES_GET_MISSING;
    if (result->r != -EREMOTEIO)
        return POD_RESOURCES_GET_UNKNOWN;
    if (strcasestr(result->err.msg, "disabled") || strcasestr(result->err.msg, "feature gate") ||
        strcasestr(result->err.msg, "not enabled"))
        return POD_RESOURCES_GET_MISSING;
    return strcasestr(result->err.msg, "not found") ? POD_RESOURCES_GET_WORKS
                                                    : POD_RESOURCES_GET_UNKNOWN;
}

static void get_answered(void *arg, const struct rpc_result *result)
{
    AUTO_FREE struct pod_resources_query *query = arg;
    query->get_cb(query->arg, judge(result), &result->err);
}

struct pod_resources_query *pod_resources_probe_get(
    struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
    void (*cb)(void *arg, enum pod_resources_get get, const struct err *err), void *arg)
{
    struct pod_resources_query *query = xcalloc(1, sizeof *query);
    *query = (struct pod_resources_query){.get_cb = cb, .arg = arg};
    char pod[] = "ccnode-probe", namespace_[] = "ccnode-probe-no-such-namespace";
    Podres__GetRequest request;
    podres__get_request__init(&request);
    request.pod_name = pod;
    request.pod_namespace = namespace_;
    size_t n = 0;
    AUTO_FREE uint8_t *data = proto_pack(&request.base, &n);
    return ask(rpc, host, socket, timeout_ms, "/v1.PodResourcesLister/Get", data, n, query,
               get_answered);
}

void pod_resources_cancel(struct pod_resources_query *query)
{
    if (!query)
        return;
    rpc_cancel(query->call);
    free(query);
}
