#include "node-agent/kube/kube.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/node.h"

#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS                                                                             \
    30000 /* as client-go's reflectors: kubernetes/client-go tools/cache/reflector.go */
#define WATCH_STALL_MS 150000

static int load_creds(struct kube *kube, const struct kube_options *o, struct err *err)
{
    int r = o->kubeconfig && *o->kubeconfig
                ? creds_load_kubeconfig(&kube->creds, o->kubeconfig, err)
                : creds_load_in_cluster(&kube->creds, o->service_account_dir, err);
    if (r == 0 && o->evict_token_file && *o->evict_token_file) {
        r = creds_with_token_file(&kube->creds, o->evict_token_file, &kube->evict_creds, err);
        if (r < 0)
            (void)err_wrap(err, r, "token for evictions");
    }
    return r;
}

static int set_namespace(struct kube *kube, const char *wanted, struct err *err)
{
    const char *ns = wanted && *wanted ? wanted : kube->creds.namespace_;
    kube->namespace_ = xstrdup(ns && *ns ? ns : "default");
    int r = node_name_check(kube->namespace_, err);
    return r < 0 ? err_wrap(err, r, "namespace") : 0;
}

struct kube *kube_new(struct loop *loop, const struct kube_options *o, struct err *err)
{
    struct kube *kube = xcalloc(1, sizeof *kube);
    *kube = (struct kube){.loop = loop,
                          .node_name = xstrdup(o->node_name ? o->node_name : ""),
                          .user_agent = xstrdup(o->user_agent ? o->user_agent : "ccnode"),
                          .keys = o->keys,
                          .on_node = o->on_node,
                          .on_watch_state = o->on_watch_state,
                          .arg = o->arg,
                          .backoff_min_ms = o->backoff_min_ms ? o->backoff_min_ms : BACKOFF_MIN_MS,
                          .backoff_max_ms = o->backoff_max_ms ? o->backoff_max_ms : BACKOFF_MAX_MS,
                          .watch_stall_ms = o->watch_stall_ms ? o->watch_stall_ms : WATCH_STALL_MS};
    int r = node_name_check(kube->node_name, err);
    if (r == 0)
        r = load_creds(kube, o, err);
    if (r == 0)
        r = set_namespace(kube, o->namespace_, err);
    if (r == 0)
        kube->http = http_new(loop, err);
    if (!kube->http) {
        kube_free(kube);
        return NULL;
    }
    return kube;
}

void kube_free(struct kube *kube)
{
    if (!kube)
        return;
    kube->closing = true;
    lease_free_all(kube);
    watch_free(kube->watch);
    kube->watch = NULL;
    call_abort_all(kube);
    events_free(kube->events);
    http_free(kube->http);
    creds_done(&kube->creds);
    creds_done(&kube->evict_creds);
    free(kube->node_name);
    free(kube->user_agent);
    free(kube->namespace_);
    free(kube);
}

const char *kube_warning(const struct kube *kube)
{
    return kube->creds.warning[0] ? kube->creds.warning : NULL;
}

const char *kube_server(const struct kube *kube)
{
    return kube->creds.server;
}

const char *kube_node_version(const struct kube *kube)
{
    return watch_version(kube->watch);
}

const struct kube_node *kube_node_seen(const struct kube *kube)
{
    return watch_node(kube->watch);
}

const struct kube_stats *kube_stats(const struct kube *kube)
{
    return &kube->stats;
}

/* --- patches of the own Node --- */

struct patch_call {
    struct kube *kube;
    kube_cb *cb;
    void *arg;
};

/* The answer must be our Node. */
static void on_patched(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct patch_call *p = arg;
    struct kube_result mine = *result;
    const char *name = object ? json_text(object, NODE_MAX_TEXT, "metadata", "name", NULL) : NULL;
    if (!mine.err.code && object && (!name || strcmp(name, p->kube->node_name) != 0))
        (void)err_set(&mine.err, EBADMSG, "patched Node %s but the answer is about %.100s",
                      p->kube->node_name, name ? name : "no object");
    if (p->cb)
        p->cb(p->arg, &mine);
    free(p);
}

static void start_patch(struct kube *kube, struct call_spec *spec, const char *sub, kube_cb *cb,
                        void *arg)
{
    if (kube->closing)
        return;
    struct patch_call *p = xcalloc(1, sizeof *p);
    *p = (struct patch_call){.kube = kube, .cb = cb, .arg = arg};
    AUTO_FREE char *path =
        xasprintf("/api/v1/nodes/%s%s?fieldManager=ccnode", kube->node_name, sub);
    spec->verb = "patch";
    spec->method = "PATCH";
    spec->path = spec->body ? path : NULL;
    spec->accept = ACCEPT_OBJECT;
    (void)call_start(kube, spec, on_patched, p);
}

void kube_patch_node(struct kube *kube, const struct kube_patch *patch, int deadline_ms,
                     kube_cb *cb, void *arg)
{
    bool empty = patch->n_labels == 0 && patch->n_annotations == 0;
    AUTO_FREE char *body = empty ? NULL : body_patch(patch);
    struct call_spec spec = {.resource = "nodes",
                             .content_type = "application/merge-patch+json",
                             .body = body,
                             .deadline_ms = deadline_ms};
    start_patch(kube, &spec, "", cb, arg);
}

void kube_patch_condition(struct kube *kube, const struct kube_condition *condition,
                          int deadline_ms, kube_cb *cb, void *arg)
{
    AUTO_FREE char *body = body_condition(condition, wall_us());
    struct call_spec spec = {.resource = "nodes/status",
                             .content_type = "application/strategic-merge-patch+json",
                             .body = body,
                             .deadline_ms = deadline_ms};
    start_patch(kube, &spec, "/status", cb, arg);
}

void kube_remove_condition(struct kube *kube, const char *type, int deadline_ms, kube_cb *cb,
                           void *arg)
{
    AUTO_FREE char *body = body_condition_removed(type);
    struct call_spec spec = {.resource = "nodes/status",
                             .content_type = "application/strategic-merge-patch+json",
                             .body = body,
                             .deadline_ms = deadline_ms};
    start_patch(kube, &spec, "/status", cb, arg);
}

struct machine_call {
    void (*cb)(void *arg, const struct kube_result *result, const struct kube_machine *machine);
    void *arg;
    char *name;
};

static const char *node_info(struct json_object *object, const char *key)
{
    const char *text = json_text(object, NODE_MAX_TEXT, "status", "nodeInfo", key, NULL);
    return text ? text : "";
}

static void on_machine(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct machine_call *m = arg;
    struct kube_result mine = *result;
    const char *name = object ? json_text(object, NODE_MAX_TEXT, "metadata", "name", NULL) : NULL;
    if (object && (!name || strcmp(name, m->name) != 0))
        (void)err_set(&mine.err, EBADMSG, "get nodes: the answer is another object than Node %s",
                      m->name);
    struct kube_machine machine = {.machine_id = node_info(object, "machineID"),
                                   .system_uuid = node_info(object, "systemUUID")};
    m->cb(m->arg, &mine, mine.err.code ? NULL : &machine);
    free(m->name);
    free(m);
}

void kube_get_machine(struct kube *kube, int deadline_ms,
                      void (*cb)(void *arg, const struct kube_result *result,
                                 const struct kube_machine *machine),
                      void *arg)
{
    if (kube->closing)
        return;
    struct machine_call *m = xcalloc(1, sizeof *m);
    *m = (struct machine_call){.cb = cb, .arg = arg, .name = xstrdup(kube->node_name)};
    AUTO_FREE char *path = xasprintf("/api/v1/nodes/%s", kube->node_name);
    struct call_spec spec = {.verb = "get",
                             .resource = "nodes",
                             .method = "GET",
                             .path = path,
                             .accept = ACCEPT_FULL,
                             .deadline_ms = deadline_ms};
    (void)call_start(kube, &spec, on_machine, m);
}

/* --- GPU Operator --- */

struct policy_call {
    void (*cb)(void *arg, const struct kube_result *result, const char *mode);
    void *arg;
};

static void on_policy(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct policy_call *p = arg;
    struct kube_result mine = *result;
    const char *mode =
        object ? json_text(object, 64, "spec", "ccManager", "defaultMode", NULL) : NULL;
    if (object && !mode)
        mode = "";
    /* the server names the object when only that is missing, and not the resource */
    if (mine.status == 404 && strstr(mine.err.msg, "\"cluster-policy\" not found"))
        mode = "";
    if (mine.status == 404 || mine.status == 403)
        mine.err = ERR_INIT; /* no GPU Operator here, or none of our business */
    p->cb(p->arg, &mine, mine.err.code ? NULL : mode);
    free(p);
}

void kube_get_cluster_policy_mode(struct kube *kube,
                                  void (*cb)(void *arg, const struct kube_result *result,
                                             const char *mode),
                                  void *arg)
{
    if (kube->closing)
        return;
    struct policy_call *p = xcalloc(1, sizeof *p);
    *p = (struct policy_call){.cb = cb, .arg = arg};
    struct call_spec spec = {.verb = "get",
                             .resource = "clusterpolicies.nvidia.com",
                             .method = "GET",
                             .path = "/apis/nvidia.com/v1/clusterpolicies/cluster-policy",
                             .accept = ACCEPT_FULL};
    (void)call_start(kube, &spec, on_policy, p);
}
