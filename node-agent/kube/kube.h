/* Kubernetes API client of the agent: the own Node, Events, pods that hold devices, Leases. Strings only, no GPU
 * meaning. Asynchronous on one loop, no threads; everything is called on the loop's thread.
 *
 *   state     | entered by                        | the watch                       | calls
 *   ----------|-----------------------------------|---------------------------------|-----------------------------
 *   new       | kube_new()                        | not started                     | allowed, sent at once
 *   listing   | kube_watch(), 410, lost stream    | GET nodes?fieldSelector         | allowed
 *   watching  | list answered, stream open        | up: on_watch_state(true)        | allowed
 *   waiting   | any failure                       | down: on_watch_state(false), backoff 1 s to 30 s with jitter
 *   gone      | kube_free()                       | -                               | answered with ECANCELED
 *
 * The watch never gives up and never ends the process. A call is repeated with jittered backoff (Retry-After
 * honoured) until its deadline; then, or at once for answers that repeating cannot change, its callback gets the error.
 * Exactly one callback per call, always from the loop, never from inside the function that started it
 * (except by kube_free(), which answers everything that is open; calls started from those callbacks are forgotten, leases
 * are gone without a word). kube_free() must not be called from a callback.
 *
 * Every answer is hostile: at most 8 MiB, checked before it is believed; a Node of another name is refused.
 *
 * Codes in kube_result.err: 0; ESTALE 409 (read again and decide again); EACCES 401, 403 (names verb and resource);
 * ENOENT 404; EEXIST 409 of a create; EINVAL 400, 415, 422; EBUSY a PodDisruptionBudget said no until the deadline; EPERM
 * we refuse ourselves (a pod that must not be evicted); EBADMSG not JSON, wrong object; EFBIG larger than 8 MiB;
 * ETIMEDOUT no answer; EREMOTEIO other status, number in device_status; ECANCELED; ENETUNREACH no connection, TLS.
 *
 * Sources: Kubernetes API conventions and concepts (kubernetes/website, api-concepts.md: watch, bookmarks, 410, patches).
 */
#ifndef CCN_KUBE_KUBE_H
#define CCN_KUBE_KUBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"

struct kube;

struct kube_pair {
    const char *key;
    const char *value; /* in a patch NULL deletes the key */
};

/* What we follow of the Node; valid only inside the callback. Labels and annotations are the ones asked for with
 * kube_options.keys, sorted by key. */
struct kube_node {
    bool
        exists; /* false: the Node is not registered (yet, or any more); all other members are empty */
    const char *name;
    const char *uid;
    const char *resource_version;
    size_t n_labels;
    const struct kube_pair *labels;
    size_t n_annotations;
    const struct kube_pair *annotations;
};

/* Value of a label or annotation, NULL when absent. */
const char *kube_node_label(const struct kube_node *node, const char *key);
const char *kube_node_annotation(const struct kube_node *node, const char *key);

struct kube_options {
    const char *node_name; /* RFC 1123 name; copied */

    /* Credentials: kubeconfig when given, else the service account of the pod (environment and files). */
    const char *kubeconfig;          /* NULL = in-cluster */
    const char *service_account_dir; /* NULL = /var/run/secrets/kubernetes.io/serviceaccount */
    /* Token of the second ServiceAccount, for kube_evict(); same server and CA. NULL or "" = the first one's. */
    const char *evict_token_file;

    const char *
        user_agent; /* "ccnode-agent/0.1.0"; also reportingController of Events is "ccnode.io/agent" */
    const char *namespace_; /* of the Leases; NULL = the service account's, else "default" */

    /* Keys of labels and annotations that matter; one that ends in '*' is a prefix; ended by NULL. NULL = all.
     * The array and its strings must outlive the client. */
    const char *const *keys;

    /* The Node: first time, and whenever existence, uid, or a label or annotation of @keys changed. */
    void (*on_node)(void *arg, const struct kube_node *node);
    /* The watch is open (reason "") or lost (one sentence); only transitions. May be NULL. */
    void (*on_watch_state)(void *arg, bool up, const char *reason);
    void *arg;

    /* For tests; 0 = default. */
    int backoff_min_ms, backoff_max_ms; /* 1000, 30000 */
    int watch_stall_ms;                 /* 150000: bookmarks come about every minute */
};

/**
 * kube_new() - read credentials; no request yet
 * Return: the client; NULL: no or bad credentials (EINVAL, ENOENT, ENOTSUP for exec plugins and the like, by name).
 */
struct kube *kube_new(struct loop *loop, const struct kube_options *options, struct err *err);
void kube_free(struct kube *kube); /* accepts NULL */

/* kube_warning() - what the operator should know of the credentials (TLS not verified), or NULL. */
const char *kube_warning(const struct kube *kube);
const char *kube_server(const struct kube *kube); /* URL, for messages */

/* kube_watch() - start to follow the Node; once. */
void kube_watch(struct kube *kube);

/* kube_node_version() - the newest resourceVersion of the Node seen, "" before; for patches that depend on what was read. */
const char *kube_node_version(const struct kube *kube);

/* kube_refresh() - a list now instead of at the end of the backoff (for instance after a 409); harmless any time. */
void kube_refresh(struct kube *kube);

struct kube_result {
    int status;         /* HTTP status of the last answer, 0 = none */
    int retry_after_ms; /* what the last answer asked for, -1 = nothing */
    /* of the object written, "" where unknown; borrowed */
    const char *resource_version;
    struct err err; /* code 0 = done */
};

typedef void kube_cb(void *arg, const struct kube_result *result);

/* --- the own Node --- */

/* What kubelet wrote of its machine into the Node; "" = nothing. Valid inside the callback only. */
struct kube_machine {
    const char *machine_id, *system_uuid;
};
/* kube_get_machine() - status.nodeInfo of the own Node; @machine is NULL with an error. One whole Node is read for it. */
void kube_get_machine(struct kube *kube, int deadline_ms,
                      void (*cb)(void *arg, const struct kube_result *result,
                                 const struct kube_machine *machine),
                      void *arg);

/* kube_node_seen() - what on_node was given last, NULL before; valid until on_node is called again. */
const struct kube_node *kube_node_seen(const struct kube *kube);

struct kube_patch {
    size_t n_labels;
    const struct kube_pair *labels;
    size_t n_annotations;
    const struct kube_pair *annotations;
    const char *
        resource_version; /* NULL or "": unconditional; else 409 (ESTALE) when the Node changed since */
};

/* kube_patch_node() - ONE merge patch of labels and annotations, fieldManager=ccnode. A patch of nothing succeeds
 * without a request. @patch is only read during the call. @deadline_ms: 0 = 30 s. */
void kube_patch_node(struct kube *kube, const struct kube_patch *patch, int deadline_ms,
                     kube_cb *cb, void *arg);

struct kube_condition {
    const char *type;      /* "ConfidentialGPUsReady" */
    const char *status;    /* "True", "False", "Unknown" */
    const char *reason;    /* CamelCase */
    const char *message;   /* cut at 32 KiB, as the API server would refuse it */
    int64_t transition_ms; /* wall clock of the last change of status, ms since 1970; 0 = now */
};

/* kube_patch_condition() - strategic merge patch of one condition on the status subresource; heartbeat = now. */
void kube_patch_condition(struct kube *kube, const struct kube_condition *condition,
                          int deadline_ms, kube_cb *cb, void *arg);

/* kube_remove_condition() - take a condition of ours off the Node. */
void kube_remove_condition(struct kube *kube, const char *type, int deadline_ms, kube_cb *cb,
                           void *arg);

/* kube_event() - an Event on the Node (events.k8s.io/v1). Sent and forgotten; a repetition of type, reason and note
 * within 6 minutes becomes the series of the first one (the count is written when it doubles or a minute has passed).
 * @type: "Normal" or "Warning"; @note is cut at 1024 bytes on a character border. */
void kube_event(struct kube *kube, const char *type, const char *reason, const char *action,
                const char *note);

/* kube_events_denied() - the API server forbids us to write Events: why, "" = it does not, as far as is known. */
const char *kube_events_denied(const struct kube *kube);

/* --- pods --- */

struct kube_pod {
    const char *namespace_;
    const char *name;
    const char *uid;
    const char *owner_kind; /* of the controlling owner, "" = none */
    const char *owner_name;
    bool mirror;   /* static pod of the kubelet */
    bool deleting; /* has a deletionTimestamp */
};

/* kube_pod_may_be_evicted() - pure. Return: false for pods of a DaemonSet, static (mirror) pods and pods owned by a
 * Node; ret_why (may be NULL) then says so in words. */
bool kube_pod_may_be_evicted(const struct kube_pod *pod, const char **ret_why);

/**
 * kube_evict() - ask the Eviction API to end a pod
 * Reads the pod first and refuses (EPERM) what kube_pod_may_be_evicted() refuses; the eviction carries the uid read. 404 and a
 * pod that is being deleted already are success. 429 is repeated (Retry-After, backoff) until @deadline_ms, then
 * EBUSY with the server's words (they name the budget). Success means accepted, not gone.
 */
void kube_evict(struct kube *kube, const char *namespace_, const char *name, int deadline_ms,
                kube_cb *cb, void *arg);

/* --- Lease semaphore: how many nodes change at a time --- */

struct kube_lease;
/**
 * kube_lease_acquire() - get one of @max slots, the Leases "<name>-0" … "<name>-<max-1>"
 * @cb: result.err 0: granted; EACCES, EINVAL: cannot work, told once, and it keeps trying. May be called again: ESTALE,
 *      the slot was lost (we were cut off longer than the duration and another took it); it is being tried for again.
 * A slot that this node held before a crash is taken up again at once. A slot is foreign until its holder has not renewed
 * it for its duration, measured with our own clock from when we saw it (no clock is compared between nodes).
 * @duration_s: 0 = 60; renewed at a third of it.
 */
struct kube_lease *kube_lease_acquire(struct kube *kube, const char *name, unsigned max,
                                      unsigned duration_s, kube_cb *cb, void *arg);
bool kube_lease_is_held(const struct kube_lease *lease);
/* kube_lease_release() - stop waiting, or give the slot back; no callback any more. Accepts NULL. */
void kube_lease_release(struct kube_lease *lease);

/* --- the own DaemonSet --- */

/* kube_daemon_set_ends() - @ends: it is gone, or being deleted in the foreground: an uninstallation, not an update.
 * @deadline_ms: 0 = the usual one, asked again until then; else asked once, for so long. */
void kube_daemon_set_ends(struct kube *kube, const char *namespace_, const char *name,
                          int deadline_ms,
                          void (*cb)(void *arg, const struct kube_result *result, bool ends),
                          void *arg);
/* kube_delete_daemon_set() - in the foreground: it goes after its pods. One that is gone is success. */
void kube_delete_daemon_set(struct kube *kube, const char *namespace_, const char *name,
                            int deadline_ms, kube_cb *cb, void *arg);

/* --- GPU Operator --- */

/* kube_get_cluster_policy_mode() - spec.ccManager.defaultMode of clusterpolicies.nvidia.com/cluster-policy; @mode is ""
 * when there is no such object or it does not say, NULL when there is no such resource or permission. */
void kube_get_cluster_policy_mode(struct kube *kube,
                                  void (*cb)(void *arg, const struct kube_result *result,
                                             const char *mode),
                                  void *arg);

/* --- counters, for the metrics --- */

#define KUBE_STATS_CODES 48
#define KUBE_STATS_REASONS 12

struct kube_stats {
    bool watch_up;
    uint64_t events_dropped;  /* Events thrown away because too many were waiting */
    uint64_t watch_documents; /* decoded from watch streams */
    uint64_t node_changes;    /* on_node calls */
    size_t n_requests;
    struct {
        char verb[8]; /* get list watch patch create update */
        char code[8]; /* "200" …; "error" = no answer */
        uint64_t count;
    } requests[KUBE_STATS_CODES];
    size_t n_restarts;
    struct {
        char reason[16]; /* timeout expired error connection stalled bad_data http */
        uint64_t count;
    } restarts[KUBE_STATS_REASONS];
};

const struct kube_stats *kube_stats(const struct kube *kube);

#endif
