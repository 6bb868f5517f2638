#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cri/internal.h"
#include "runtime.pb-c.h"

static const char *const sockets[] = {
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    NULL,
};

const char *const *cri_sockets(void)
{
    return sockets;
}

/* One question, put to one socket after the other until somebody answers. */
struct cri_query {
    struct rpc *rpc;
    const struct host *host;
    char *socket; /* asked for; "auto" */
    size_t at;    /* candidate, with "auto" */
    int timeout_ms;
    struct rpc_call *call;
    bool list;        /* sandboxes; else Version and Status */
    struct err first; /* the first error that tells more than "no such socket" */
    struct cri_runtime runtime;
    void (*runtime_cb)(void *arg, int r, const struct cri_runtime *runtime, const struct err *err);
    void (*list_cb)(void *arg, int r, const struct cri_sandboxes *list, const struct err *err);
    void *arg;
};

static void ask(struct cri_query *q);

static const char *candidate(const struct cri_query *q)
{
    return strcmp(q->socket, "auto") == 0 ? sockets[q->at] : q->socket;
}

static void free_query(struct cri_query *q)
{
    cri_runtime_free(&q->runtime);
    free(q->socket);
    free(q);
}

static void finish(struct cri_query *q, int r, const struct cri_sandboxes *list,
                   const struct err *err)
{
    if (q->list)
        q->list_cb(q->arg, r, list, err);
    else
        q->runtime_cb(q->arg, r, r < 0 ? NULL : &q->runtime, err);
    free_query(q);
}

/* Next candidate, or the end. */
static void failed(struct cri_query *q, const struct err *err)
{
    if (q->first.code == 0 || (q->first.code == ENOENT && err->code != ENOENT))
        q->first = *err;
    if (strcmp(q->socket, "auto") == 0 && sockets[q->at + 1]) {
        q->at++;
        ask(q);
        return;
    }
    struct err all = q->first;
    if (strcmp(q->socket, "auto") == 0 && all.code == ENOENT)
        (void)err_set(&all, ENOENT,
                      "no container runtime found: none of the usual sockets (%s, %s, …) is there",
                      sockets[0], sockets[1]);
    finish(q, -all.code, NULL, &all);
}

static void list_answered(struct cri_query *q, const struct rpc_result *result)
{
    struct cri_sandboxes list = {0};
    struct err err = ERR_INIT;
    int r = cri_decode_sandboxes(result->data, result->n, &list, &err);
    finish(q, r, r < 0 ? NULL : &list, &err);
    cri_sandboxes_free(&list);
}

static void status_answered(void *arg, const struct rpc_result *result)
{
    struct cri_query *q = arg;
    struct err err = result->err;
    int r = result->r;
    q->call = NULL;
    if (r == 0)
        r = cri_decode_status(result->data, result->n, &q->runtime, &err);
    if (r == 0)
        crio_read_conf(&q->runtime, q->host);
    finish(q, r, NULL, &err);
}

static void send(struct cri_query *q, const char *method, const ProtobufCMessage *message,
                 void (*cb)(void *arg, const struct rpc_result *result))
{
    size_t n = 0;
    AUTO_FREE uint8_t *data = message ? proto_pack(message, &n) : NULL;
    struct rpc_request request = {.host = q->host,
                                  .socket = candidate(q),
                                  .method = method,
                                  .data = data,
                                  .n = n,
                                  .timeout_ms = q->timeout_ms,
                                  .max_answer = CRI_MAX_ANSWER};
    q->call = rpc_call(q->rpc, &request, cb, q);
}

/* Not known: a runtime of before the v1 API, or containerd with its CRI plugin switched off. */
static void explain_old(struct err *err)
{
    if (err->code == ENOSYS)
        (void)err_wrap(
            err, -ENOSYS,
            "this container runtime does not serve CRI runtime.v1 (containerd before 1.6, CRI-O "
            "before 1.23, or the cri plugin is disabled in containerd's configuration)");
}

static void first_answered(void *arg, const struct rpc_result *result)
{
    struct cri_query *q = arg;
    struct err err = result->err;
    q->call = NULL;
    explain_old(&err);
    if (result->r < 0) {
        failed(q, &err);
    } else if (q->list) {
        list_answered(q, result);
    } else if (cri_decode_version(result->data, result->n, &q->runtime, &err) < 0) {
        failed(q, &err);
    } else {
        cri_free_text(q->runtime.socket);
        q->runtime.socket = xstrdup(candidate(q));
        Cri__StatusRequest request;
        cri__status_request__init(&request);
        request.verbose = 1;
        send(q, "/runtime.v1.RuntimeService/Status", &request.base, status_answered);
    }
}

static void ask(struct cri_query *q)
{
    if (q->list) {
        send(q, "/runtime.v1.RuntimeService/ListPodSandbox", NULL, first_answered);
        return;
    }
    char version[] = "v1";
    Cri__VersionRequest request;
    cri__version_request__init(&request);
    request.version = version;
    send(q, "/runtime.v1.RuntimeService/Version", &request.base, first_answered);
}

static struct cri_query *new_query(struct rpc *rpc, const struct host *host, const char *socket,
                                   int timeout_ms)
{
    struct cri_query *q = xcalloc(1, sizeof *q);
    *q = (struct cri_query){
        .rpc = rpc, .host = host, .socket = xstrdup(socket), .timeout_ms = timeout_ms};
    return q;
}

struct cri_query *
cri_ask(struct rpc *rpc, const struct host *host, const char *socket, int timeout_ms,
        void (*cb)(void *arg, int r, const struct cri_runtime *runtime, const struct err *err),
        void *arg)
{
    struct cri_query *q = new_query(rpc, host, socket, timeout_ms);
    q->runtime_cb = cb;
    q->arg = arg;
    ask(q);
    return q;
}

struct cri_query *cri_list_sandboxes(struct rpc *rpc, const struct host *host, const char *socket,
                                     int timeout_ms,
                                     void (*cb)(void *arg, int r, const struct cri_sandboxes *list,
                                                const struct err *err),
                                     void *arg)
{
    struct cri_query *q = new_query(rpc, host, socket, timeout_ms);
    q->list = true;
    q->list_cb = cb;
    q->arg = arg;
    ask(q);
    return q;
}

void cri_cancel(struct cri_query *query)
{
    if (!query)
        return;
    rpc_cancel(query->call);
    free_query(query);
}
