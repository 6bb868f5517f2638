#include "node-agent/operands.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/daemon_set.h"
#include "node-agent/kube/backoff.h"
#include "node-agent/kubelet/pod_resources.h"

#define ANSWER_MS 3000
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
    struct operands_options options;
    bool labelled[N_DUTIES], running[N_DUTIES];
    bool policy_asked;
    struct pod_resources_query *pods_query;
    struct loop_timer *pods_timer, *policy_timer;
    struct backoff backoff; /* of the policy */
};

/* ---- the policy ---- */

static void ask_policy(void *arg);

static void on_policy(void *arg, const struct kube_result *result, const char *mode)
{
    struct operands *o = arg;
    if (result->err.code == ECANCELED)
        return;
    int wait_ms = mode ? POLICY_AGAIN_MS : NO_POLICY_AGAIN_MS;
    if (result->err.code)
        wait_ms = backoff_next(&o->backoff, random_u32());
    else
        o->backoff.failures = 0;
    o->policy_timer = loop_add_timer(o->options.loop, wait_ms, ask_policy, o);
    /* not answered is not "there is none": what it said last holds */
    if (!result->err.code)
        o->options.on_policy(o->options.arg, mode ? mode : "");
}

static void ask_policy(void *arg)
{
    struct operands *o = arg;
    o->policy_timer = NULL;
    kube_get_cluster_policy_mode(o->options.kube, on_policy, o);
}

/* ---- the pods ---- */

static void on_pods_due(void *arg);

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
    o->pods_timer =
        any_labelled(o) ? loop_add_timer(o->options.loop, PODS_AGAIN_MS, on_pods_due, o) : NULL;
    if (changed)
        o->options.on_change(o->options.arg);
}

static void on_pods(void *arg, int r, const struct pod_list *list, const struct err *err)
{
    struct operands *o = arg;
    bool running[N_DUTIES] = {false};
    o->pods_query = NULL;
    if (r < 0)
        log_debug("kubelet does not say which pods run here; the labels are believed", "error",
                  err->msg, NULL);
    for (size_t d = 0; d < N_DUTIES; d++) {
        running[d] = o->labelled[d] && r < 0;
        for (size_t i = 0; r == 0 && i < list->n_pods; i++)
            running[d] = running[d] || (o->labelled[d] && daemon_set_has_pod(duties[d].daemon_set,
                                                                             list->pods[i].pod));
    }
    set_running(o, running);
}

static void ask_pods(struct operands *o)
{
    if (!o->pods_query)
        o->pods_query =
            pod_resources_list(o->options.rpc, o->options.host,
                               o->options.config->pod_resources_socket, ANSWER_MS, on_pods, o);
}

static void on_pods_due(void *arg)
{
    struct operands *o = arg;
    o->pods_timer = NULL;
    ask_pods(o);
}

/* Return: whether a label says "true" that did not before. */
static bool read_labels(struct operands *o, const struct last_node *last)
{
    bool more = false;
    for (size_t i = 0; i < N_DUTIES; i++) {
        const char *value = last_node_label(last, duties[i].label);
        bool now = value && strcmp(value, "true") == 0;
        more = more || (now && !o->labelled[i]);
        o->labelled[i] = now;
        o->running[i] = o->running[i] && now;
    }
    return more;
}

void operands_saw_node(struct operands *o, const struct last_node *last)
{
    bool more = read_labels(o, last);
    if (!o->policy_timer && !o->policy_asked) {
        o->policy_asked = true;
        ask_policy(o);
    }
    if (more)
        ask_pods(o);
    else if (!any_labelled(o)) {
        loop_cancel(o->pods_timer);
        o->pods_timer = NULL;
    }
}

/* ---- life ---- */

struct operands *operands_new(const struct operands_options *options, const struct last_node *last)
{
    struct operands *o = xcalloc(1, sizeof *o);
    *o = (struct operands){.options = *options,
                           .backoff = {.min_ms = 1000, .max_ms = POLICY_AGAIN_MS}};
    /* after a restart: what ran then is believed to run until kubelet has answered */
    if (last->known && read_labels(o, last)) {
        memcpy(o->running, o->labelled, sizeof o->running);
        o->pods_timer = loop_add_timer(o->options.loop, 0, on_pods_due, o);
    }
    return o;
}

void operands_free(struct operands *o)
{
    if (!o)
        return;
    pod_resources_cancel(o->pods_query);
    loop_cancel(o->pods_timer);
    loop_cancel(o->policy_timer);
    free(o);
}

struct stand_back operands_get(const struct operands *o)
{
    return (struct stand_back){
        .mode = o->running[DUTY_MODE],
        .vfio = o->running[DUTY_VFIO],
        .plugin = o->running[DUTY_PLUGIN] || o->running[DUTY_KATA_PLUGIN],
    };
}
