/* What is wanted: configuration, node labels and annotations -> one wish per device. Pure.
 *
 * Precedence of a device's mode: annotation ccnode.io/cc.mode.devices, then devices.modes of the configuration, then
 * the label nvidia.com/cc.mode, then mode.default. In the CC modes (on, off, devtools) NVSwitches are wanted off;
 * ppcie concerns every GPU and switch of the node and cannot be asked for only some.
 * A Hopper GPU or switch that is not managed forbids it: nothing is changed then, since ppcie protects all or nothing.
 * A value that is not allowed changes nothing: the wish is then "as it is" (CC_MODE_UNKNOWN) for every device it
 * would have concerned, and `problem` says so with the allowed values.
 */
#ifndef CCN_AGENT_INTENT_H
#define CCN_AGENT_INTENT_H

#include <stdbool.h>
#include <stddef.h>

#include "node-agent/config.h"
#include "node-agent/node_state.h"

/* Label and annotation keys: the one table of names. */
#define LABEL_MODE "nvidia.com/cc.mode"
#define LABEL_MODE_STATE "nvidia.com/cc.mode.state"
#define LABEL_READY_STATE "nvidia.com/cc.ready.state"
#define LABEL_CAPABLE "nvidia.com/cc.capable"
#define LABEL_WORKLOAD "nvidia.com/gpu.workload.config"
#define LABEL_PRESENT "nvidia.com/gpu.present"
#define LABEL_DEPLOY_PREFIX "nvidia.com/gpu.deploy."
#define ANNOTATION_DEVICE_MODES "ccnode.io/cc.mode.devices"
#define ANNOTATION_STATUS "ccnode.io/status"
#define CONDITION_TYPE "ConfidentialGPUsReady"

enum binding {
    BINDING_LEAVE,   /* whatever it is */
    BINDING_VFIO,    /* vm-passthrough */
    BINDING_RELEASE, /* container: hand it back to the host driver when idle */
};

/* Duties of GPU Operator operands that run on this node: we stand back from these (REF-K M-SEED-2). */
struct stand_back {
    bool mode;   /* cc-manager */
    bool vfio;   /* vfio-manager */
    bool plugin; /* sandbox-device-plugin, kata-sandbox-device-plugin */
};

struct key_value {
    const char *key, *value; /* borrowed */
};

/* What the Node says; n_labels = 0 and known = false without Kubernetes or before the first answer. */
struct node_wish {
    bool known;
    size_t n_labels, n_annotations;
    const struct key_value *labels, *annotations;
    struct stand_back operands; /* a pod of that operand runs here */
    /* spec.ccManager.defaultMode of the GPU Operator's ClusterPolicy as it is; "" = it says nothing, NULL = not known
     * yet: what only a default asks for has to wait */
    const char *cluster_policy;
};

struct device_intent {
    bool managed;      /* included, not excluded, workload not hands-off */
    enum cc_mode mode; /* CC_MODE_UNKNOWN = leave as it is */
    enum binding binding;
    const char *source; /* static text: "annotation", "configuration", "label", "default" */
};

struct intent {
    size_t n; /* same order and number as observed.devices */
    struct device_intent devices[NV_MAX_DEVICES];
    bool hands_off;    /* workload value that is neither vm-passthrough nor container */
    bool serve;        /* devices are offered to kubelet and CDI (vm-passthrough) */
    bool mixed;        /* different modes asked for GPUs */
    enum cc_mode mode; /* the one mode of all managed GPUs; UNKNOWN when mixed or invalid */
    struct stand_back stand_back;
    char problem_reason
        [64]; /* "" = none; CamelCase, for the condition: InvalidMode, InvalidDeviceModes, … */
    char problem[512]; /* what is wrong, allowed values */
};

/* intent_resolve() - never fails: what cannot be understood becomes `problem`. */
void intent_resolve(const struct config *config, const struct node_wish *node,
                    const struct observed *observed, struct intent *ret);

/* intent_belongs_to_fabric() - is it one of those that ppcie takes together? */
bool intent_belongs_to_fabric(const struct nv_device *dev);
/* intent_find_outsider() - Return: the first device of the fabric that is not managed, or NULL. */
const struct nv_device *intent_find_outsider(const struct intent *intent,
                                             const struct observed *observed);

#endif
