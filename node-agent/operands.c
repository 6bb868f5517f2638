#include "node-agent/operands.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"

#define PODS_AGAIN_MS 15000       /* while a label says that an operand runs */
#define POLICY_AGAIN_MS 30000     /* while the cluster knows ClusterPolicies */
#define NO_POLICY_AGAIN_MS 600000 /* no such resource: a GPU Operator may be installed later */

enum duty { DUTY_MODE, DUTY_VFIO, DUTY_PLUGIN, DUTY_KATA_PLUGIN, N_DUTIES };

static const struct {
    const char *label;
    const char *daemon_set; /* gpu-operator, assets/state-*: names of the DaemonSets */
} duties[N_DUTIES] = {
    [DUTY_MODE] = {LABEL_DEPLOY_PREFIX "cc-manager", "nvidia-cc-manager"},
    [DUTY_VFIO] = {LABEL_DEPLOY_PREFIX "vfio-manager", "nvidia-vfio-manager"},
    [DUTY_PLUGIN] = {LABEL_DEPLOY_PREFIX "sandbox-device-plugin",
                     "nvidia-sandbox-device-plugin-daemonset"},
    [DUTY_KATA_PLUGIN] = {LABEL_DEPLOY_PREFIX "kata-sandbox-device-plugin",
                          "nvidia-kata-sandbox-device-plugin-daemonset"},
};

struct operands {
    struct loop *loop;
    struct kube *kube;
    void (*on_change)(void *arg);
    void *arg;
    bool labelled[N_DUTIES], running[N_DUTIES];
    bool asking;
    enum cc_mode policy;
    struct loop_timer *pods_timer, *policy_timer;
};

static void ask_policy(void *arg);

static void on_policy(void *arg, const struct kube_result *result, const char *mode)
{
    struct operands *o = arg;
    if (result->err.code == ECANCELED)
        return;
    enum cc_mode policy = mode ? cc_mode_parse(mode) : CC_MODE_UNKNOWN;
    o->policy_timer =
        loop_add_timer(o->loop, mode ? POLICY_AGAIN_MS : NO_POLICY_AGAIN_MS, ask_policy, o);
    if (policy == o->policy)
        return;
    o->policy = policy;
    o->on_change(o->arg);
}

static void ask_policy(void *arg)
{
    struct operands *o = arg;
    o->policy_timer = NULL;
    kube_get_cluster_policy_mode(o->kube, on_policy, o);
}

struct operands *operands_new(struct loop *loop, struct kube *kube, void (*on_change)(void *arg),
                              void *arg)
{
    struct operands *o = xcalloc(1, sizeof *o);
    *o = (struct operands){.loop = loop, .kube = kube, .on_change = on_change, .arg = arg};
    /* not at once: the first requests are for the Node */
    o->policy_timer = loop_add_timer(loop, 200, ask_policy, o);
    return o;
}

void operands_free(struct operands *o)
{
    if (!o)
        return;
    loop_cancel(o->pods_timer);
    loop_cancel(o->policy_timer);
    free(o);
}

static void ask_pods(void *arg);

static bool any_labelled(const struct operands *o)
{
    for (size_t i = 0; i < N_DUTIES; i++) {
        if (o->labelled[i])
            return true;
    }
    return false;
}

static void set_running(struct operands *o, const bool running[static N_DUTIES])
{
    bool changed = memcmp(o->running, running, sizeof o->running) != 0;
    memcpy(o->running, running, sizeof o->running);
    loop_cancel(o->pods_timer);
    o->pods_timer = any_labelled(o) ? loop_add_timer(o->loop, PODS_AGAIN_MS, ask_pods, o) : NULL;
    if (changed)
        o->on_change(o->arg);
}

static void on_pods(void *arg, const struct kube_result *result, size_t n,
                    const struct kube_pod *pods)
{
    struct operands *o = arg;
    bool running[N_DUTIES] = {false};
    if (result->err.code == ECANCELED)
        return;
    o->asking = false;
    for (size_t d = 0; d < N_DUTIES; d++) {
        running[d] = o->labelled[d] && result->err.code != 0; /* not known: believe the label */
        for (size_t i = 0; result->err.code == 0 && i < n; i++)
            running[d] = running[d] || (o->labelled[d] && !pods[i].deleting &&
                                        strcmp(pods[i].owner_kind, "DaemonSet") == 0 &&
                                        strcmp(pods[i].owner_name, duties[d].daemon_set) == 0);
    }
    set_running(o, running);
}

static void ask_pods(void *arg)
{
    struct operands *o = arg;
    loop_cancel(o->pods_timer);
    o->pods_timer = NULL;
    if (o->asking)
        return;
    o->asking = true;
    kube_list_pods_on_node(o->kube, on_pods, o);
}

void operands_saw_node(struct operands *o, const struct kube_node *node)
{
    bool more = false;
    for (size_t i = 0; i < N_DUTIES; i++) {
        const char *value = kube_node_label(node, duties[i].label);
        bool now = value && strcmp(value, "true") == 0;
        more = more || (now && !o->labelled[i]);
        o->labelled[i] = now;
        if (!now)
            o->running[i] = false;
    }
    if (more)
        ask_pods(o);
    else if (!any_labelled(o)) {
        loop_cancel(o->pods_timer);
        o->pods_timer = NULL;
    }
}

struct stand_back operands_get(const struct operands *o)
{
    return (struct stand_back){
        .mode = o->running[DUTY_MODE],
        .vfio = o->running[DUTY_VFIO],
        .plugin = o->running[DUTY_PLUGIN] || o->running[DUTY_KATA_PLUGIN],
    };
}

enum cc_mode operands_policy(const struct operands *o)
{
    return o->policy;
}
