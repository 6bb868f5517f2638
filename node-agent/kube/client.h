/* Inside of the client: what its files share. Not for others: they include kube.h. */
#ifndef CCN_KUBE_CLIENT_H
#define CCN_KUBE_CLIENT_H

#include "node-agent/kube/backoff.h"
#include "node-agent/kube/creds.h"
#include "node-agent/kube/http.h"
#include "node-agent/kube/kube.h"

struct json_object;
struct call;
struct events;
struct watch;

struct kube {
    struct loop *loop;
    struct http *http;
    struct creds creds;
    struct creds evict_creds; /* server NULL: none of its own */
    char *node_name;
    char *user_agent;
    char *namespace_;
    const char *const *keys;
    void (*on_node)(void *arg, const struct kube_node *node);
    void (*on_watch_state)(void *arg, bool up, const char *reason);
    void *arg;
    int backoff_min_ms, backoff_max_ms, watch_stall_ms;
    bool full_objects; /* the server answered 406 to metadata only */
    bool closing;
    struct call *calls;
    struct watch *watch;
    struct events *events;
    struct kube_lease *leases;
    struct kube_stats stats;
};

/* --- one API call, repeated until done (call.c) --- */

#define ACCEPT_OBJECT "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
#define ACCEPT_LIST "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
#define ACCEPT_FULL "application/json"
#define DEFAULT_DEADLINE_MS 30000

struct call_spec {
    const char *verb;         /* RBAC verb, also for the counters; literal */
    const char *resource;     /* "nodes/status", for messages; literal */
    const char *method;       /* literal */
    const char *path;         /* copied; NULL: nothing to ask, done at once */
    const char *accept;       /* ACCEPT_…; literal */
    const char *content_type; /* literal */
    const char *body;         /* copied */
    int deadline_ms;          /* 0 = DEFAULT_DEADLINE_MS */
    bool once;                /* no waiting and repeating; the caller does that */
    bool evicting;            /* second credentials; 429 at the end is EBUSY */
};

/* @object: the answer, borrowed; NULL with an error */
typedef void call_cb(void *arg, const struct kube_result *result, struct json_object *object);

struct call *call_start(struct kube *kube, const struct call_spec *spec, call_cb *cb, void *arg);
void call_cancel(struct call *call); /* no callback; accepts NULL */
void call_abort_all(struct kube *kube);

/* answer_check() - HTTP answer to error: 0 for 2xx; else the codes of kube.h, naming verb and resource */
int answer_check(const struct http_answer *answer, const char *verb, const char *resource,
                 struct err *err);

void stats_request(struct kube *kube, const char *verb, int status);
void stats_restart(struct kube *kube, const char *reason);

/* --- parts --- */
void watch_free(struct watch *watch);
const struct kube_node *watch_node(const struct watch *watch);
const char *watch_version(const struct watch *watch);
void events_free(struct events *events);
void lease_free_all(struct kube *kube);

#endif
