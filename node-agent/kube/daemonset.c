/* The agent's own DaemonSet: whether it is being deleted, and its deletion by the chart's pre-delete hook. */
#include <errno.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/node.h"

static char *path_of(const char *namespace_, const char *name)
{
    AUTO_FREE char *ns = url_escape(namespace_);
    AUTO_FREE char *n = url_escape(name);
    return xasprintf("/apis/apps/v1/namespaces/%s/daemonsets/%s", ns, n);
}

struct ends_call {
    void (*cb)(void *arg, const struct kube_result *result, bool ends);
    void *arg;
};

static void on_daemon_set(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct ends_call *c = arg;
    struct kube_result mine = *result;
    bool ends = mine.err.code == ENOENT ||
                (object && json_text(object, 64, "metadata", "deletionTimestamp", NULL));
    if (mine.err.code == ENOENT)
        mine.err = ERR_INIT;
    c->cb(c->arg, &mine, ends);
    free(c);
}

void kube_daemon_set_ends(struct kube *kube, const char *namespace_, const char *name,
                          int deadline_ms,
                          void (*cb)(void *arg, const struct kube_result *result, bool ends),
                          void *arg)
{
    if (kube->closing)
        return;
    AUTO_FREE char *path = path_of(namespace_, name);
    struct ends_call *c = xcalloc(1, sizeof *c);
    *c = (struct ends_call){.cb = cb, .arg = arg};
    struct call_spec spec = {.verb = "get",
                             .resource = "daemonsets",
                             .method = "GET",
                             .path = path,
                             .accept = ACCEPT_OBJECT,
                             .deadline_ms = deadline_ms,
                             .once = deadline_ms > 0};
    (void)call_start(kube, &spec, on_daemon_set, c);
}

struct delete_call {
    kube_cb *cb;
    void *arg;
};

static void on_deleted(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct delete_call *c = arg;
    struct kube_result mine = *result;
    (void)object;
    if (mine.err.code == ENOENT)
        mine.err = ERR_INIT;
    c->cb(c->arg, &mine);
    free(c);
}

void kube_delete_daemon_set(struct kube *kube, const char *namespace_, const char *name,
                            int deadline_ms, kube_cb *cb, void *arg)
{
    if (kube->closing)
        return;
    AUTO_FREE char *path = path_of(namespace_, name);
    struct delete_call *c = xcalloc(1, sizeof *c);
    *c = (struct delete_call){.cb = cb, .arg = arg};
    struct call_spec spec = {.verb = "delete",
                             .resource = "daemonsets",
                             .method = "DELETE",
                             .path = path,
                             .accept = ACCEPT_FULL,
                             .content_type = "application/json",
                             .body = "{\"propagationPolicy\":\"Foreground\"}",
                             .deadline_ms = deadline_ms};
    (void)call_start(kube, &spec, on_deleted, c);
}
