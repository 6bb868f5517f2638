/* Birth, events and end of the daemon. */
#include "node-agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/trim.h"
#include "node-agent/caps.h"
#include "node-agent/gpu/lock.h"
#include "node-agent/retire.h"
#include "node-agent/status.h"
#include "version.h"

#define FAREWELL_MS 500     /* kubelet is told; it may be away */
#define EXPLAIN_MAX_MS 5000 /* for the API server, with --explain */
#define SETTLED_MS 5000     /* after a start or change: looks, answers and registrations are over */
#define UNUSED_MS 70000 /* longer than anything periodic waits (users are looked at every 60 s) */

/* Labels and annotations of the Node that matter. */
static const char *const node_keys[] = {
    LABEL_MODE,
    LABEL_MODE_STATE,
    LABEL_READY_STATE,
    LABEL_CAPABLE,
    LABEL_WORKLOAD,
    LABEL_PRESENT,
    LABEL_DEPLOY_PREFIX "*",
    ANNOTATION_DEVICE_MODES,
    ANNOTATION_STATUS,
    NULL,
};

/* ---- the Node ---- */

static void save_last_node(struct agent *agent)
{
    struct err err = ERR_INIT;
    if (last_node_save(&agent->host, agent->config.state_directory, &agent->last_node, &err) < 0)
        log_warning("the orders cannot be kept for a restart without API server", "error", err.msg,
                    NULL);
}

static void take_orders(struct agent *agent, const struct kube_node *node)
{
    size_t room = node->n_labels + node->n_annotations + 1;
    struct last_source *pairs = xcalloc(room, sizeof *pairs);
    for (size_t i = 0; i < node->n_labels; i++)
        pairs[i] = (struct last_source){node->labels[i].key, node->labels[i].value};
    struct last_source *annotations = pairs + node->n_labels;
    for (size_t i = 0; i < node->n_annotations; i++)
        annotations[i] = (struct last_source){node->annotations[i].key, node->annotations[i].value};
    bool changed = last_node_set(&agent->last_node, agent->options.node_name, pairs, node->n_labels,
                                 annotations, node->n_annotations);
    free(pairs);
    operands_saw_node(agent->operands, &agent->last_node);
    if (!changed) { /* an answer to what the agent itself wrote, or nothing of ours: the host is the same */
        agent_decide(agent);
        return;
    }
    const char *mode = kube_node_label(node, LABEL_MODE);
    char shown[72]; /* a label has 63 characters at most, a hostile one may have more */
    (void)snprintf(shown, sizeof shown, "%.64s", mode ? mode : "");
    log_info("orders of the node", "mode", shown, NULL);
    if (!agent->options.explain)
        save_last_node(agent);
    evict_forget(agent->evict);
    agent_try_again(agent);
    agent_decide(agent); /* withdraw at once; a fresh look follows before anything is touched */
    agent_kick(agent, LOOK_SYSFS, 0);
}

static void on_node(void *arg, const struct kube_node *node)
{
    struct agent *agent = arg;
    if (agent->stopping || !node_check_passes(agent->node_check, node))
        return;
    if (node->exists && !*agent->last_state) {
        const char *state = kube_node_label(node, LABEL_MODE_STATE);
        (void)snprintf(agent->last_state, sizeof agent->last_state, "%.20s", state ? state : "");
    }
    if (!node->exists && !agent->node_gone)
        log_warning("the Node object does not exist; the devices are left as they are", "node",
                    agent->options.node_name, NULL);
    agent->node_gone = !node->exists;
    publisher_saw_node(agent->publisher, node);
    if (!node->exists)
        return;
    take_orders(agent, node);
}

static void on_node_checked(void *arg)
{
    struct agent *agent = arg;
    const struct kube_node *node = kube_node_seen(agent->kube);
    status_soon(agent);
    if (node)
        on_node(agent, node);
}

static void on_watch_state(void *arg, bool up, const char *reason)
{
    struct agent *agent = arg;
    agent->watch_up = up;
    (void)snprintf(agent->watch_error, sizeof agent->watch_error, "%.390s", reason);
    if (up)
        log_info("watching the Node", "node", agent->options.node_name, NULL);
    else
        log_warning("the Node is not watched for now; the agent goes on with the last orders",
                    "reason", reason, NULL);
    if (!up && strstr(reason, "forbidden (403)"))
        tell_event(agent, "Warning", advice_reason(ADVICE_PERMISSION), "Watch", "%s", reason);
    status_soon(agent);
}

static void on_published(void *arg)
{
    struct agent *agent = arg;
    if (agent->stopping)
        return;
    /* a look that is under way decides as it ends; one that is too old is asked for by the decision */
    if (!agent->look && (agent->label_blocks || agent->label_tells))
        agent_decide(agent);
    agent_permissions_seen(agent);
}

static void on_operands(void *arg)
{
    struct agent *agent = arg;
    struct stand_back now = operands_get(agent->operands);
    log_info("GPU Operator on this node", "cc_manager", now.mode ? "runs" : "no", "vfio_manager",
             now.vfio ? "runs" : "no", "sandbox_device_plugin", now.plugin ? "runs" : "no", NULL);
    agent_kick(agent, LOOK_SYSFS, 0);
}

static void on_policy(void *arg, const char *mode)
{
    struct agent *agent = arg;
    if (agent->stopping || !last_node_set_policy(&agent->last_node, mode))
        return;
    if (*mode)
        log_info("default mode of the ClusterPolicy", "mode", mode, NULL);
    if (agent->last_node.known && !agent->options.explain)
        save_last_node(agent);
    agent_try_again(agent);
    agent_decide(agent);
    agent_kick(agent, LOOK_SYSFS, 0);
}

static void on_evicted(void *arg, const struct pod_ref *pod, const char *error)
{
    struct agent *agent = arg;
    if (*error) {
        log_warning("a pod could not be evicted", "namespace", pod->namespace, "pod", pod->name,
                    "error", error, NULL);
        tell_event(agent, "Warning", "EvictionFailed", "EvictPod", "%s/%s: %.700s", pod->namespace,
                   pod->name, error);
    } else {
        log_info("pod is evicted", "namespace", pod->namespace, "pod", pod->name, NULL);
        tell_event(agent, "Normal", "PodEvicted", "EvictPod",
                   "%s/%s holds a device that must change mode", pod->namespace, pod->name);
    }
    agent_kick(agent, LOOK_USERS, 0);
}

static void on_evicted_late(void *arg, const struct pod_ref *pod, bool accepted)
{
    struct agent *agent = arg;
    const char *answer = accepted ? "accepted" : "not accepted";
    log_warning("a pod does not leave within busy.evictTimeout", "namespace", pod->namespace, "pod",
                pod->name, "eviction", answer, NULL);
    tell_event(agent, "Warning", "EvictedPodStays", "EvictPod", "%s/%s " EVICT_LATE, pod->namespace,
               pod->name, answer);
    agent_kick(agent, LOOK_SYSFS, 0); /* the condition says it too */
}

/* ---- the host ---- */

static void on_hotplug(void *arg)
{
    struct agent *agent = arg;
    if (!change_any_writing(agent)) /* our own binds come along here too */
        agent_kick(agent, LOOK_USERS, 50);
    else
        agent_kick(agent, LOOK_SYSFS, 200);
}

static void on_surroundings(void *arg)
{
    agent_decide(arg); /* nothing of the host has changed */
}

static bool cdi_is_stale(void *arg)
{
    const struct agent *agent = arg;
    return serving_cdi_stale(agent->serving);
}

static void on_restored(void *arg, const char *dir, const char *file)
{
    static const char text[] = "a CDI file was changed or removed by somebody else";
    log_warning(text, "directory", dir, "file", file, "now", "written again", NULL);
    tell_event(arg, "Warning", "CDIFileRestored", "Offer",
               "%s/%s was changed or removed by somebody else and is written again; find out who "
               "does it: pods are started by that file",
               dir, file);
}

static void on_released(void *arg, const char *bdf)
{
    struct agent *agent = arg;
    log_info("the stuck process has ended, the device may be looked at again", "bdf", bdf, NULL);
    agent_kick(agent, LOOK_USERS, 0);
}

static void ask_surroundings(struct agent *agent)
{
    const struct config *config = &agent->config;
    runtime_configure(agent->runtime, config->cri_socket, config->cdi_directory);
    cdi_files_configure(agent->cdi_files, config->cdi_enabled ? config->cdi_directory : "");
    kubelet_view_configure(agent->kubelet_view, config->pod_resources_socket,
                           config->plugin_enabled && agent->kube ? config->plugin_directory : "");
}

static void on_config(void *arg)
{
    struct agent *agent = arg;
    struct config config = {0};
    struct err err = ERR_INIT;
    if (agent->stopping)
        return;
    int r = config_load(agent->options.config_path, &config, &err);
    const char *key = r < 0 ? NULL : config_needs_restart(&agent->config, &config);
    if (key)
        r = err_set(&err, EINVAL, "%s cannot be changed while the agent runs; restart it", key);
    if (r < 0) {
        log_error("the new configuration is not used, the old one stays", "error", err.msg, NULL);
        tell_event(agent, "Warning", "InvalidConfiguration", "Configure", "%s", err.msg);
        config_done(&config);
        return;
    }
    if (agent->options.log_level_given)
        config.log_level = agent->config.log_level;
    if (agent->options.log_format_given)
        config.log_format = agent->config.log_format;
    config_done(&agent->config);
    agent->config = config;
    log_setup(config.log_level, config.log_format);
    log_info("configuration is read again", "file", agent->options.config_path, NULL);
    evict_forget(agent->evict);
    agent_try_again(agent);
    ask_surroundings(agent);
    agent_decide(agent);
    agent_kick(agent, LOOK_SYSFS, 0);
}

/* ---- the end ---- */

static void on_gone(void *arg)
{
    struct agent *agent = arg;
    loop_cancel(agent->farewell);
    agent->farewell = NULL;
    loop_stop(agent->loop);
}

static void on_farewell_late(void *arg)
{
    struct agent *agent = arg;
    agent->farewell = NULL;
    loop_stop(agent->loop);
}

static void on_retired(void *arg, bool retired)
{
    struct agent *agent = arg;
    agent->farewell = loop_add_timer(agent->loop, FAREWELL_MS, on_farewell_late, agent);
    serving_stop(agent->serving, retired ? DP_STOP_WITHDRAW : DP_STOP_KEEP, on_gone, agent);
}

void agent_finish(struct agent *agent)
{
    if (agent->finishing)
        return;
    agent->finishing = true;
    if (!retire(agent, on_retired, agent))
        on_retired(agent, false);
}

static void on_stop_signal(void *arg, int signo)
{
    struct agent *agent = arg;
    if (agent->stopping) { /* asked twice: now */
        loop_stop(agent->loop);
        return;
    }
    log_info("asked to end; devices are left as they are", "signal",
             signo == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    agent->stopping = true;
    change_stop_all(agent);
}

static void on_hangup(void *arg, int signo)
{
    (void)signo;
    struct agent *agent = arg;
    if (agent->options.config_path)
        on_config(arg);
}

/* ---- explain ---- */

static void print_explanation(void *arg)
{
    struct agent *agent = arg;
    agent->farewell = NULL;
    if (*node_check_foreign(agent->node_check))
        (void)printf("%s\n", node_check_foreign(agent->node_check));
    else if (agent_is_blind(agent))
        (void)printf("the API server has not answered, the orders of the node are not known\n");
    plan_print_text(agent->plan, agent->intent, agent->observed, stdout);
    agent->stopping = true;
    loop_stop(agent->loop);
}

void agent_explain(struct agent *agent)
{
    bool reading = false;
    for (size_t i = 0; i < agent->n_tracks; i++)
        reading = reading || agent->tracks[i].querying;
    bool policy = !agent->kube || agent->last_node.policy_known;
    if (reading || agent->plan->queries || agent_is_blind(agent) || !policy)
        return;
    loop_cancel(agent->farewell);
    print_explanation(agent);
}

/* ---- birth ---- */

static int start_kube(struct agent *agent, struct err *err)
{
    if (!agent->options.node_name)
        return 0;
    struct kube_options options = {
        .node_name = agent->options.node_name,
        .kubeconfig = agent->options.kubeconfig,
        .evict_token_file = getenv("CCNODE_EVICT_TOKEN"),
        .user_agent = "ccnode-agent/" CCN_VERSION,
        .keys = node_keys,
        .on_node = on_node,
        .on_watch_state = on_watch_state,
        .arg = agent,
    };
    agent->kube = kube_new(agent->loop, &options, err);
    if (!agent->kube)
        return -err->code;
    if (kube_warning(agent->kube))
        log_warning(kube_warning(agent->kube), NULL);
    agent->publisher = publisher_new(agent->loop, agent->kube, on_published, agent);
    struct operands_options operands = {.loop = agent->loop,
                                        .rpc = agent->rpc,
                                        .host = &agent->host,
                                        .config = &agent->config,
                                        .kube = agent->kube,
                                        .on_change = on_operands,
                                        .on_policy = on_policy,
                                        .arg = agent};
    agent->operands = operands_new(&operands, &agent->last_node);
    agent->node_check =
        node_check_new(agent->loop, agent->kube, &agent->host, on_node_checked, agent);
    kube_watch(agent->kube);
    if (*agent->journal_refused && !agent->options.explain)
        tell_event(agent, "Warning", "JournalNotTrusted", "Start",
                   "%s; everything is read from the devices, held ones are unknown until they are "
                   "released",
                   agent->journal_refused);
    return 0;
}

/* A predecessor that was killed may have left half-written files. */
static void remove_leftovers(struct agent *agent)
{
    const char *const dirs[] = {agent->config.state_directory, STATUS_DIR,
                                agent->config.validations_directory};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        fs_remove_stale(&agent->host, dirs[i], "", ".tmp");
}

/* Two agents on one host would undo each other's work. */
static int be_the_only_one(struct agent *agent, struct err *err)
{
    if (agent->options.explain)
        return 0;
    int fd = lock_take(&agent->host, STATUS_DIR, AGENT_LOCK, err);
    if (fd < 0)
        return err_wrap(err, fd, "another ccnode-agent works on this host; end it first");
    agent->lock_fd = fd;
    remove_leftovers(agent);
    return 0;
}

static int load_state(struct agent *agent)
{
    struct err err = ERR_INIT;
    const char *dir = agent->config.state_directory;
    if (journal_load(&agent->host, dir, &agent->journal, &err) < 0) {
        log_error("the journal is not trusted; everything is read from the devices", "error",
                  err.msg, NULL);
        (void)snprintf(agent->journal_refused, sizeof agent->journal_refused, "%s", err.msg);
    }
    err = ERR_INIT;
    if (agent->options.node_name &&
        last_node_load(&agent->host, dir, agent->options.node_name, &agent->last_node, &err) < 0)
        log_warning("the orders of the last run are not known", "error", err.msg, NULL);
    return 0;
}

static int start_http(struct agent *agent, struct err *err)
{
    if (!*agent->config.http_listen || agent->options.explain)
        return 0;
    struct httpd_options options = {
        .listen = agent->config.http_listen,
        .metrics = tell_metrics,
        .prepare_metrics = tell_prepare_metrics,
        .plan = tell_plan,
        .ready = tell_ready,
        .arg = agent,
    };
    agent->httpd = httpd_new(agent->loop, &options, err);
    if (!agent->httpd)
        return -err->code;
    log_info("listening", "http", httpd_address(agent->httpd), NULL);
    return 0;
}

static int start_parts(struct agent *agent, struct err *err)
{
    agent->rpc = rpc_new(agent->loop, err);
    if (!agent->rpc)
        return -err->code;
    struct workers_options workers = {.on_released = on_released, .arg = agent};
    agent->workers = workers_new(&agent->host, agent->loop, &workers, err);
    if (!agent->workers)
        return -err->code;
    struct serving_options options = {
        .loop = agent->loop,
        .rpc = agent->rpc,
        .host = &agent->host,
        .on_event = tell_plugin_event,
        .on_restored = on_restored,
        .arg = agent,
    };
    agent->serving = serving_new(&options);
    int r = start_http(agent, err);
    if (r == 0)
        r = start_kube(agent, err);
    if (r < 0)
        return r;
    struct evict_options evict = {.loop = agent->loop,
                                  .kube = agent->kube,
                                  .on_done = on_evicted,
                                  .on_late = on_evicted_late,
                                  .arg = agent};
    agent->evict = evict_new(&evict);
    struct runtime_options runtime = {.loop = agent->loop,
                                      .rpc = agent->rpc,
                                      .host = &agent->host,
                                      .on_change = on_surroundings,
                                      .arg = agent};
    agent->runtime = runtime_new(&runtime);
    struct kubelet_view_options view = {.loop = agent->loop,
                                        .rpc = agent->rpc,
                                        .host = &agent->host,
                                        .serving = agent->serving,
                                        .on_change = on_surroundings,
                                        .arg = agent};
    agent->kubelet_view = kubelet_view_new(&view);
    struct sandboxes_options sandboxes = {.loop = agent->loop,
                                          .rpc = agent->rpc,
                                          .host = &agent->host,
                                          .on_change = on_surroundings,
                                          .arg = agent};
    agent->sandboxes = sandboxes_new(&sandboxes);
    agent->cdi_files =
        cdi_files_new(agent->loop, &agent->host, cdi_is_stale, on_surroundings, agent);
    if (!agent->options.explain)
        ask_surroundings(agent);
    agent->hotplug = hotplug_new(agent->loop, &agent->host, on_hotplug, agent);
    if (agent->options.config_path && !agent->options.explain)
        agent->reload = reload_new(agent->loop, agent->options.config_path, on_config, agent);
    return 0;
}

/* Signals first: the threads of gRPC inherit the mask. */
static int start_signals(struct agent *agent, struct err *err)
{
    (void)signal(SIGPIPE, SIG_IGN); /* NOLINT: one thread so far */
    int r = loop_add_signal(agent->loop, SIGTERM, on_stop_signal, agent, err);
    if (r == 0)
        r = loop_add_signal(agent->loop, SIGINT, on_stop_signal, agent, err);
    if (r == 0)
        r = loop_add_signal(agent->loop, SIGHUP, on_hangup, agent, err);
    if (r == 0 && getpid() == 1) /* of a container */
        r = loop_reap_orphans(agent->loop, err);
    return r;
}

static void end(struct agent *agent)
{
    if (!agent->options.explain)
        status_remove(agent);
    loop_cancel(agent->pass_timer);
    loop_cancel(agent->tick_timer);
    loop_cancel(agent->settle_timer);
    loop_cancel(agent->farewell);
    observe_cancel(agent->look);
    recover_stop(agent);
    change_abandon_all(agent);
    bus_view_free(agent->bus_view);
    agent->bus_view = NULL;
    httpd_free(agent->httpd);
    reload_free(agent->reload);
    hotplug_free(agent->hotplug);
    runtime_free(agent->runtime);
    cdi_files_free(agent->cdi_files);
    kubelet_view_free(agent->kubelet_view);
    sandboxes_free(agent->sandboxes);
    kube_free(agent->kube);
    node_check_free(agent->node_check);
    publisher_free(agent->publisher);
    operands_free(agent->operands);
    evict_free(agent->evict);
    serving_free(agent->serving);
    workers_free(agent->workers);
    rpc_free(agent->rpc);
    loop_free(agent->loop);
    host_close(&agent->host);
    agent_metrics_done(&agent->metrics);
    publish_done(&agent->published);
    last_node_done(&agent->last_node);
    config_done(&agent->config);
    memory_done(&agent->memory);
    free(agent->observed);
    free(agent->intent);
    free(agent->plan);
    free(agent->publish_devices);
}

/* Libraries that have not been used since then leave the page cache as well. */
static void idle(void *arg)
{
    struct agent *agent = arg;
    agent->settle_timer = NULL;
    trim_memory();
}

/* What the start or the change needed is not needed now. */
static void settled(void *arg)
{
    struct agent *agent = arg;
    trim_memory();
    agent->settle_timer = loop_add_timer(agent->loop, UNUSED_MS, idle, agent);
}

void agent_settle(struct agent *agent)
{
    loop_cancel(agent->settle_timer);
    agent->settle_timer = loop_add_timer(agent->loop, SETTLED_MS, settled, agent);
}

int agent_main(const struct agent_options *options, struct config *config)
{
    struct err err = ERR_INIT;
    struct agent *agent = xcalloc(1, sizeof *agent);
    agent->options = *options;
    agent->config = *config;
    *config = (struct config){0};
    agent->observed = xcalloc(1, sizeof *agent->observed);
    agent->intent = xcalloc(1, sizeof *agent->intent);
    agent->plan = xcalloc(1, sizeof *agent->plan);
    agent->publish_devices = xcalloc(NV_MAX_DEVICES, sizeof *agent->publish_devices);
    agent->loop = loop_new(NULL, NULL);
    agent_metrics_init(&agent->metrics, CCN_VERSION);
    agent->host.root_fd = agent->lock_fd = -1;
    int r = host_open(&agent->host, options->host_root, &err);
    if (r == 0)
        r = caps_limit(&err);
    if (r == 0)
        r = start_signals(agent, &err);
    if (r == 0)
        r = be_the_only_one(agent, &err);
    if (r == 0)
        r = load_state(agent);
    if (r == 0)
        r = start_parts(agent, &err);
    if (r < 0) {
        log_error("cannot start", "error", err.msg, NULL);
        agent->exit_status = 1;
    } else {
        log_info("started", "version", CCN_VERSION, "node",
                 options->node_name ? options->node_name : "(no Kubernetes)", NULL);
        if (options->explain)
            agent->farewell = loop_add_timer(agent->loop, EXPLAIN_MAX_MS, print_explanation, agent);
        agent_kick(agent, LOOK_SYSFS, 0);
        agent_settle(agent);
        loop_run(agent->loop);
    }
    int status = agent->exit_status;
    end(agent);
    if (agent->lock_fd >= 0)
        (void)close(agent->lock_fd);
    free(agent);
    return status;
}
