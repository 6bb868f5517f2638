/* Kubelet device plugin, API v1beta1: offers devices under resource names, one socket per resource.
 *
 *   state per resource | meaning                                               | leaves it
 *   -------------------|-------------------------------------------------------|--------------------------------------
 *   waiting            | no kubelet.sock, or it refuses: told once, tried again| kubelet.sock appears, or a timer
 *   registering        | Register sent (kubelet calls us back meanwhile)       | answer
 *   registered         | kubelet has opened ListAndWatch                       | our socket vanished, kubelet.sock is
 *                      |                                                       | another one, the stream ended
 *   stopping           | empty list sent, stream ended, socket unlinked        | gone
 *
 * Level-triggered: dp_set() gives the whole wanted state; what differs is sent. Nothing here touches a device, waits for
 * one or opens a file of it. One loop thread; callbacks come from the loop and may call dp_set(), not dp_free().
 *
 * Kubelet's rules: kubernetes/kubelet pkg/apis/deviceplugin/v1beta1 (api.proto, constants.go) and kubernetes/kubernetes
 * pkg/kubelet/cm/devicemanager. Node lists and permissions as NVIDIA/sandbox-device-plugin, environment as
 * NVIDIA/kubevirt-gpu-device-plugin.
 */
#ifndef CCN_DEVICE_PLUGIN_H
#define CCN_DEVICE_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"

#define DP_MAX_DEVICES 256 /* per resource */
#define DP_MAX_RESOURCES 64
#define DP_MAX_ID 63 /* kubernetes/kubelet api.proto, Device.ID */
#define DP_MAX_REASON 256

/* One device as kubelet sees it. Strings are copied by dp_set(). */
struct dp_device {
    const char *id;     /* "0000:65:00.0" or a number, see ids.h; unique within its resource */
    bool healthy;       /* false: counts in capacity, not in allocatable */
    const char *reason; /* why not healthy, for whoever asks for it all the same; may be NULL */
    int numa_node;      /* -1 = none: then no topology is sent */
    /* Device node for the container, exactly one: "/dev/vfio/65" (then /dev/vfio/vfio is added once) or
     * "/dev/vfio/devices/vfio3". */
    const char *node;
    const char *bdfs; /* PCI addresses, comma separated, for the environment: "0000:65:00.0" */
    const char *
        cdi; /* "nvidia.com/GH100_H100_PCIE=0000:65:00.0" to be injected by the runtime; NULL = not */
    /* Nearness for GetPreferredAllocation; equal text = near, NULL or "" = near to nobody. */
    const char *partition;   /* NVLink/NVSwitch partition */
    const char *pcie_switch; /* address of the upstream port of the switch */
};

struct dp_resource {
    const char *name; /* "nvidia.com/GH100_H100_PCIE" */
    size_t n;         /* 0: an empty list is offered (capacity 0) and the endpoint stays */
    const struct dp_device *devices;
    /* Not NULL: a container gets all of them or none, and this sentence tells why. */
    const char *only_together;
};

enum dp_event_kind {
    DP_WAITING,      /* no kubelet yet; text says what is missing. Once per absence */
    DP_REGISTERED,   /* kubelet accepted and has the list */
    DP_LOST,         /* registration is over; text says why. It is renewed by itself */
    DP_REFUSED,      /* kubelet said no; text is its reason. Tried again with backoff */
    DP_ALLOCATED,    /* ids were handed out */
    DP_ALLOC_FAILED, /* text is what kubelet was told */
    DP_TROUBLE,      /* something an operator must see, e.g. another plugin takes the resource */
};

struct dp_event {
    enum dp_event_kind kind;
    const char *resource;
    const char *text; /* one sentence, "" where there is nothing to say */
    size_t n_ids;     /* DP_ALLOCATED, DP_ALLOC_FAILED: as asked for */
    const char *const *ids;
};

struct dp_options {
    const struct host *host;
    const char
        *directory; /* "/var/lib/kubelet/device-plugins", below the host root; may not exist yet */
    /* Allocate asks, right before the answer, for each device: may it be given away now? Must not block.
     * Return: true; or false with one sentence in @why (bound to the wrong driver, mode change running, …).
     * NULL: health as given by dp_set() alone decides. */
    bool (*may_allocate)(void *arg, const char *resource, const char *id, char why[DP_MAX_REASON]);
    void (*on_event)(void *arg, const struct dp_event *event); /* may be NULL */
    void *arg;
};

struct dp;
/* dp_new() - no resource, no socket yet. @options: struct copied, host and directory kept by reference. */
struct dp *dp_new(struct loop *loop, struct rpc *rpc, const struct dp_options *options);

/**
 * dp_set() - the resources to offer from now on
 * New ones get a socket and are registered; vanished ones send an empty list and end; lists that changed are sent within
 * this call. Nothing is applied when anything is wrong.
 * Return: 0; -EINVAL names the resource or id (bad name, id longer than 63, an id twice, a resource twice, not UTF-8);
 * -E2BIG more than DP_MAX_DEVICES or DP_MAX_RESOURCES. Trouble with a socket is an event, not an error: it is retried.
 */
int dp_set(struct dp *dp, const struct dp_resource *resources, size_t n, struct err *err);

/* dp_registered() - kubelet has accepted the resource and has its list open */
bool dp_registered(const struct dp *dp, const char *resource);

/* dp_register_again() - end the list and register anew, for the reason @why (kept by reference): another plugin has taken
 * the resource over, of which kubelet tells nobody. Nothing happens when it is not registered. */
void dp_register_again(struct dp *dp, const char *resource, const char *why);

/* How the endpoints end. */
enum dp_stop {
    DP_STOP_KEEP, /* restart, upgrade: streams just end; kubelet keeps the capacity for five minutes */
    DP_STOP_WITHDRAW, /* for good: an empty list first, so capacity is 0 at once */
};
/* dp_stop() - end everything; @done once, from the loop, then only dp_free() may follow. */
void dp_stop(struct dp *dp, enum dp_stop how, void (*done)(void *arg), void *arg);
/* dp_free() - after dp_stop() is done, or at any time without a goodbye. Before rpc_free(). Accepts NULL. */
void dp_free(struct dp *dp);

#endif
