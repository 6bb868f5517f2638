/* Kubelet's PodResources API v1: which pod holds which device ids. Client only, strings only.
 *
 * Right after a kubelet restart the list may be empty for a moment although pods run: before something destructive ask
 * twice, or believe the holders in /proc as well. Pods that have ended are not listed although their VM may still exit.
 *
 * Source: kubernetes/kubelet pkg/apis/podresources/v1/api.proto. Answers of up to 16 MiB are accepted (kubelet's own
 * limit, kubernetes/kubernetes pkg/kubelet/apis/podresources).
 */
#ifndef CCN_KUBELET_POD_RESOURCES_H
#define CCN_KUBELET_POD_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/host.h"
#include "base/rpc.h"

#define POD_RESOURCES_MAX_HELD 4096 /* device ids of one answer; more is refused, not cut */
#define POD_RESOURCES_MAX_PODS 16384

/* One device id in the hands of one container. */
struct pod_held {
    const char *namespace_;
    const char *pod;
    const char *container;
    const char *resource; /* "nvidia.com/GH100_H100_PCIE"; for a DRA claim "driver/pool" */
    const char *id;       /* as the plugin called it; for a DRA claim the device name */
    bool claim;           /* from dynamic_resources */
};

struct pod_name {
    const char *namespace_;
    const char *pod;
};

/* All of them, in kubelet's order; of every resource and vendor. */
struct pod_list {
    size_t n;
    const struct pod_held *held;
    size_t n_pods;
    const struct pod_name *pods; /* all pods of the node, those without devices too */
};

struct pod_resources_query;
/**
 * pod_resources_list() - ask kubelet
 * @socket: path below the host root, "/var/lib/kubelet/pod-resources/kubelet.sock"; copied
 * @cb: once, from the loop; @list is valid inside the callback only and NULL when r < 0:
 *   -ENOENT no socket and -ECONNREFUSED nobody listens (no kubelet here, or it restarts), -ETIMEDOUT silent,
 *   -ENOSYS kubelet before 1.20, -EBADMSG broken answer, -EFBIG too much, -EREMOTEIO kubelet said no, -ECONNRESET.
 */
struct pod_resources_query *
pod_resources_list(struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
                   void (*cb)(void *arg, int r, const struct pod_list *list, const struct err *err),
                   void *arg);

/**
 * pod_resources_allocatable() - what kubelet could give away: the healthy devices that plugins told it, of every vendor
 * As pod_resources_list(); there are no pods, and pod and container of the entries are "". Kubelet has it since 1.21 (-ENOSYS before).
 */
struct pod_resources_query *pod_resources_allocatable(
    struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
    void (*cb)(void *arg, int r, const struct pod_list *list, const struct err *err), void *arg);

/* Whether kubelet answers Get, which Kata's cold-plug needs. */
enum pod_resources_get {
    POD_RESOURCES_GET_UNKNOWN, /* could not be asked; err says why */
    POD_RESOURCES_GET_WORKS,
    POD_RESOURCES_GET_MISSING, /* method unknown, or the feature gate KubeletPodResourcesGet is off; err has its text */
};
/**
 * pod_resources_probe_get() - ask Get for a pod that does not exist
 * The answer "no such pod" proves that it works. The text for a disabled gate changed between releases, so what is
 * neither success, NOT_FOUND nor a "not found" text but mentions the gate or "disabled" counts as missing.
 */
struct pod_resources_query *pod_resources_probe_get(
    struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
    void (*cb)(void *arg, enum pod_resources_get get, const struct err *err), void *arg);

/* pod_resources_cancel() - forget a query; its callback will not come. Accepts NULL. */
void pod_resources_cancel(struct pod_resources_query *query);

/* Decoder, pure: bytes of a ListPodResourcesResponse. Free with pod_list_free(). Return: 0, -EBADMSG, -EFBIG. */
int pod_list_decode(const uint8_t *data, size_t n, struct pod_list *ret, struct err *err);
/* pod_allocatable_decode() - the same of an AllocatableResourcesResponse */
int pod_allocatable_decode(const uint8_t *data, size_t n, struct pod_list *ret, struct err *err);
void pod_list_free(struct pod_list *list);

#endif
