/* Shared vocabulary of the agent: what was observed of one node. Plain data, owned by whoever holds the struct. */
#ifndef CCN_AGENT_NODE_STATE_H
#define CCN_AGENT_NODE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "node-agent/gpu/device.h"

#define NODE_MAX_PODS                                                                              \
    8 /* per device; kubelet gives a device to one pod, migrations of names may show two */

struct pod_ref {
    char namespace[64];
    char name[254];
};

/* As what kubelet gave a device to a pod: resource and id as the plugin called them then. */
struct given_name {
    char resource[80];
    char id[64];
};

/* Where the mode of a device is known from. */
enum knowledge {
    KNOWN_NOT,       /* never read, or someone holds it and the journal cannot vouch for it */
    KNOWN_REGISTERS, /* read from the device by a worker since its last change of hands */
    KNOWN_JOURNAL,   /* held through VFIO; the journal recorded it as verified in this boot */
};

struct observed_device {
    struct nv_device dev;
    enum knowledge knowledge;
    struct nv_report report; /* meaningful unless KNOWN_NOT */
    /* report.capable_modes is what the registers said, now or in this boot before somebody held it; always so when
     * KNOWN_REGISTERS */
    bool capable_known;
    size_t n_holders; /* processes; NV_MAX_HOLDERS stands for as many or more */
    struct nv_holder holders[NV_MAX_HOLDERS];
    /* of holders[0], as the container runtime says; name "" = not known, or of no pod. For messages only */
    struct pod_ref holder_pod;
    size_t n_pods;
    struct pod_ref pods[NODE_MAX_PODS];
    struct given_name given[NODE_MAX_PODS]; /* of pods[] */
    bool released; /* somebody had it, and VFIO has not been seen to open it since */
    bool acting;   /* a chain of ours is running on it */
    bool
        quarantined; /* a process that nobody can end keeps it: an abandoned worker, ours or another's */
    int stuck_pid;       /* that process, 0 = not known */
    unsigned failures;   /* in a row */
    int64_t retry_at_ms; /* not before, after a failure; 0 = at once */
    char error[640];     /* the last failure: step, what was seen, cure; "" = none */
};

struct observed {
    size_t n;
    struct observed_device devices[NV_MAX_DEVICES]; /* sorted by BDF */
    bool holders_known;                             /* the /proc scan worked */
    bool pods_known;       /* PodResources answered; always true without Kubernetes */
    bool pods_unasked;     /* kubelet has our resources, and there is no PodResources socket */
    char unknown_why[320]; /* when one of the two is false */
    char boot_id[40];
    bool snp, tdx;     /* the host can start confidential guests */
    char lockdown[24]; /* "none", "integrity", "confidentiality", "" = kernel without lockdown */
    bool iommu;        /* at least one IOMMU group exists */
    char stale
        [480]; /* why the host cannot be looked at any more: the rest is what was seen last; "" = fresh */
    char unreadable[256]; /* an NVIDIA device that could not be identified, and why; "" = none */
};

/* Under lockdown registers are reached through VFIO alone. */
static inline bool is_locked_down(const struct observed *observed)
{
    return *observed->lockdown && strcmp(observed->lockdown, "none") != 0;
}

#endif
