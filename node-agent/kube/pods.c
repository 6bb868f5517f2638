/* Pods that hold devices: ask for their end. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/node.h"

/* The pod asked for, and no other: what follows may be its end. */
static int decode_pod(struct json_object *object, const char *namespace_, const char *name,
                      struct kube_pod *ret, struct err *err)
{
    struct kube_pod pod;
    int r = pod_decode(object, &pod, err);
    if (r < 0)
        return r;
    if (strcmp(pod.name, name) != 0 || strcmp(pod.namespace_, namespace_) != 0)
        return err_set(err, EBADMSG, "asked for pod %s/%s but got %.100s/%.100s", namespace_, name,
                       pod.namespace_, pod.name);
    *ret = pod;
    return 0;
}

static char *pod_path(const char *namespace_, const char *name, const char *sub)
{
    AUTO_FREE char *ns = url_escape(namespace_);
    AUTO_FREE char *pod = url_escape(name);
    return xasprintf("/api/v1/namespaces/%s/pods/%s%s", ns, pod, sub);
}

static void start_get(struct kube *kube, const char *namespace_, const char *name, int deadline_ms,
                      call_cb *cb, void *arg)
{
    AUTO_FREE char *path = pod_path(namespace_, name, "");
    struct call_spec spec = {.verb = "get",
                             .resource = "pods",
                             .method = "GET",
                             .path = path,
                             .accept = ACCEPT_OBJECT,
                             .deadline_ms = deadline_ms,
                             .evicting = true};
    (void)call_start(kube, &spec, cb, arg);
}

/* --- eviction: read, decide, ask --- */

struct eviction {
    struct kube *kube;
    char *namespace_, *name;
    char *uid; /* of the pod we asked to end; NULL = not asked yet */
    int64_t deadline_ms;
    kube_cb *cb;
    void *arg;
};

static void finish_eviction(struct eviction *e, const struct kube_result *result)
{
    e->cb(e->arg, result);
    free(e->namespace_);
    free(e->name);
    free(e->uid);
    free(e);
}

static int time_left(const struct eviction *e)
{
    int64_t left = e->deadline_ms - loop_now_ms(e->kube->loop);
    return left > 1 ? (int)left : 1;
}

static void on_pod_to_evict(void *arg, const struct kube_result *result,
                            struct json_object *object);

static void on_evicted(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct eviction *e = arg;
    struct kube_result mine = *result;
    (void)object;
    if (mine.err.code == ESTALE) { /* another pod of that name by now? */
        start_get(e->kube, e->namespace_, e->name, time_left(e), on_pod_to_evict, e);
        return;
    }
    if (mine.err.code == ENOENT)
        mine.err = ERR_INIT; /* gone already */
    if (mine.err.code)
        (void)err_wrap(&mine.err, -1, "evict %s/%s", e->namespace_, e->name);
    finish_eviction(e, &mine);
}

static void post_eviction(struct eviction *e, const struct kube_pod *pod)
{
    AUTO_FREE char *path = pod_path(e->namespace_, e->name, "/eviction");
    AUTO_FREE char *body = body_eviction(pod->namespace_, pod->name, pod->uid);
    e->uid = xstrdup(pod->uid);
    struct call_spec spec = {.verb = "create",
                             .resource = "pods/eviction",
                             .method = "POST",
                             .path = path,
                             .accept = ACCEPT_FULL,
                             .content_type = "application/json",
                             .body = body,
                             .deadline_ms = time_left(e),
                             .evicting = true};
    (void)call_start(e->kube, &spec, on_evicted, e);
}

static void on_pod_to_evict(void *arg, const struct kube_result *result, struct json_object *object)
{
    struct eviction *e = arg;
    struct kube_result mine = *result;
    struct kube_pod pod = {0};
    const char *why = NULL;
    if (mine.err.code == ENOENT) {
        mine.err = ERR_INIT; /* gone already */
        finish_eviction(e, &mine);
        return;
    }
    if (!mine.err.code)
        (void)decode_pod(object, e->namespace_, e->name, &pod, &mine.err);
    if (!mine.err.code && !kube_pod_may_be_evicted(&pod, &why))
        (void)err_set(&mine.err, EPERM, "pod %s/%s is not evicted: %s", e->namespace_, e->name,
                      why);
    if (!mine.err.code && e->uid && strcmp(e->uid, pod.uid) == 0 && !pod.deleting)
        (void)err_set(&mine.err, ESTALE, "evict %s/%s: the pod was being changed", e->namespace_,
                      e->name);
    if (mine.err.code || pod.deleting || e->uid)
        finish_eviction(e, &mine);
    else
        post_eviction(e, &pod);
}

void kube_evict(struct kube *kube, const char *namespace_, const char *name, int deadline_ms,
                kube_cb *cb, void *arg)
{
    if (kube->closing)
        return;
    if (deadline_ms <= 0)
        deadline_ms = DEFAULT_DEADLINE_MS;
    struct eviction *e = xcalloc(1, sizeof *e);
    *e = (struct eviction){.kube = kube,
                           .namespace_ = xstrdup(namespace_),
                           .name = xstrdup(name),
                           .deadline_ms = loop_now_ms(kube->loop) + deadline_ms,
                           .cb = cb,
                           .arg = arg};
    start_get(kube, namespace_, name, deadline_ms, on_pod_to_evict, e);
}
