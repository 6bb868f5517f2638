#include "node-agent/kube/node.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "base/auto.h"

struct json_object *json_member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    if (!json_object_is_type(object, json_type_object))
        return NULL;
    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static const char *text_of(struct json_object *value, size_t max)
{
    if (!json_object_is_type(value, json_type_string))
        return NULL;
    size_t len = (size_t)json_object_get_string_len(value);
    const char *s = json_object_get_string(value);
    return len <= max && !memchr(s, 0, len) ? s : NULL;
}

const char *json_text(struct json_object *object, size_t max, ...)
{
    va_list ap;
    va_start(ap, max);
    const char *key;
    while (object && (key = va_arg(ap, const char *)))
        object = json_member(object, key);
    va_end(ap);
    return text_of(object, max);
}

int node_name_check(const char *name, struct err *err)
{
    size_t len = strlen(name);
    bool ok = len > 0 && len <= NODE_MAX_TEXT && name[0] != '-' && name[0] != '.' &&
              name[len - 1] != '-' && name[len - 1] != '.';
    if (!ok || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")])
        return err_set(
            err, EINVAL,
            "\"%.100s\" is not a Node name (lower case letters, digits, \"-\" and \".\", at "
            "most 253): see kubectl get nodes",
            name);
    return 0;
}

bool key_matches(const char *const *keys, const char *key)
{
    if (!keys)
        return true;
    for (; *keys; keys++) {
        size_t n = strlen(*keys);
        bool prefix = n > 0 && (*keys)[n - 1] == '*';
        if (prefix ? strncmp(*keys, key, n - 1) == 0 : strcmp(*keys, key) == 0)
            return true;
    }
    return false;
}

static int compare_pairs(const void *a, const void *b)
{
    const struct kube_pair *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static void free_pairs(const struct kube_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((void *)(uintptr_t)pairs[i].key);
        free((void *)(uintptr_t)pairs[i].value);
    }
    free((void *)(uintptr_t)pairs);
}

static int decode_pairs(struct json_object *map, const char *what, const char *const *keys,
                        const struct kube_pair **ret, size_t *ret_n, struct err *err)
{
    if (!map || json_object_is_type(map, json_type_null))
        return 0;
    if (!json_object_is_type(map, json_type_object))
        return err_set(err, EBADMSG, "metadata.%s is not an object", what);
    size_t total = (size_t)json_object_object_length(map), n = 0;
    if (total > NODE_MAX_KEYS)
        return err_set(err, EBADMSG, "the Node has %zu %s, more than %d", total, what,
                       NODE_MAX_KEYS);
    struct kube_pair *pairs = xcalloc(total + 1, sizeof *pairs);
    json_object_object_foreach(map, key, value)
    {
        if (!key_matches(keys, key))
            continue;
        const char *text = text_of(value, 256U * 1024); /* the API server's limit for annotations */
        if (!text) {
            free_pairs(pairs, n);
            return err_set(err, EBADMSG, "metadata.%s[\"%.100s\"] is not a text", what, key);
        }
        pairs[n++] = (struct kube_pair){.key = xstrdup(key), .value = xstrdup(text)};
    }
    qsort(pairs, n, sizeof *pairs, compare_pairs);
    *ret = pairs;
    *ret_n = n;
    return 0;
}

void node_done(struct kube_node *node)
{
    free_pairs(node->labels, node->n_labels);
    free_pairs(node->annotations, node->n_annotations);
    free((void *)(uintptr_t)node->name);
    free((void *)(uintptr_t)node->uid);
    free((void *)(uintptr_t)node->resource_version);
    *node = (struct kube_node){0};
}

int node_decode(struct json_object *object, const char *name, const char *const *keys,
                struct kube_node *ret, struct err *err)
{
    struct json_object *meta = json_member(object, "metadata");
    const char *seen = json_text(meta, NODE_MAX_TEXT, "name", NULL);
    const char *uid = json_text(meta, NODE_MAX_TEXT, "uid", NULL);
    const char *version = json_text(meta, NODE_MAX_TEXT, "resourceVersion", NULL);
    if (!seen || !version)
        return err_set(err, EBADMSG, "the answer is not a Node: no metadata.name, resourceVersion");
    if (strcmp(seen, name) != 0)
        return err_set(err, EBADMSG, "asked for Node %.100s but got Node %.100s", name, seen);
    struct kube_node node = {.exists = true};
    int r = decode_pairs(json_member(meta, "labels"), "labels", keys, &node.labels, &node.n_labels,
                         err);
    if (r == 0)
        r = decode_pairs(json_member(meta, "annotations"), "annotations", keys, &node.annotations,
                         &node.n_annotations, err);
    if (r < 0) {
        node_done(&node);
        return r;
    }
    node.name = xstrdup(seen);
    node.uid = xstrdup(uid ? uid : "");
    node.resource_version = xstrdup(version);
    *ret = node;
    return 0;
}

static bool are_same(const struct kube_pair *a, size_t na, const struct kube_pair *b, size_t nb)
{
    if (na != nb)
        return false;
    for (size_t i = 0; i < na; i++)
        if (strcmp(a[i].key, b[i].key) != 0 || strcmp(a[i].value, b[i].value) != 0)
            return false;
    return true;
}

bool node_is_same(const struct kube_node *a, const struct kube_node *b)
{
    if (!a->exists || !b->exists)
        return a->exists == b->exists;
    return strcmp(a->uid, b->uid) == 0 &&
           are_same(a->labels, a->n_labels, b->labels, b->n_labels) &&
           are_same(a->annotations, a->n_annotations, b->annotations, b->n_annotations);
}

static const char *find_pair(const struct kube_pair *pairs, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(pairs[i].key, key) == 0)
            return pairs[i].value;
    return NULL;
}

const char *kube_node_label(const struct kube_node *node, const char *key)
{
    return find_pair(node->labels, node->n_labels, key);
}

const char *kube_node_annotation(const struct kube_node *node, const char *key)
{
    return find_pair(node->annotations, node->n_annotations, key);
}

int watch_event_decode(struct json_object *doc, enum watch_event *ret,
                       struct json_object **ret_object, struct err *err)
{
    const char *type = json_text(doc, 32, "type", NULL);
    struct json_object *object = json_member(doc, "object");
    if (!type || !json_object_is_type(object, json_type_object))
        return err_set(err, EBADMSG, "a watch event without type and object");
    if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0)
        *ret = WATCH_CHANGED;
    else if (strcmp(type, "DELETED") == 0)
        *ret = WATCH_DELETED;
    else if (strcmp(type, "BOOKMARK") == 0)
        *ret = WATCH_BOOKMARK;
    else if (strcmp(type, "ERROR") == 0) {
        struct json_object *code = json_member(object, "code");
        int status = json_object_is_type(code, json_type_int) ? json_object_get_int(code) : 0;
        const char *reason = json_text(object, 64, "reason", NULL);
        const char *message = json_text(object, 4096, "message", NULL);
        bool expired = status == 410 ||
                       (reason && (strcmp(reason, "Expired") == 0 || strcmp(reason, "Gone") == 0));
        (void)err_set(err, EREMOTEIO, "the watch was ended with status %d %s: %.300s", status,
                      reason ? reason : "", message ? message : "");
        err->device_status = (uint32_t)status;
        *ret = expired ? WATCH_EXPIRED : WATCH_ERROR;
        *ret_object = NULL;
        return 0;
    } else {
        return err_set(err, EBADMSG, "a watch event of the unknown type \"%.32s\"", type);
    }
    *ret_object = object;
    return 0;
}

static void find_owner(struct json_object *meta, struct kube_pod *pod)
{
    struct json_object *owners = json_member(meta, "ownerReferences");
    if (!json_object_is_type(owners, json_type_array))
        return;
    size_t n = json_object_array_length(owners);
    for (size_t i = 0; i < n && i < 64; i++) {
        struct json_object *owner = json_object_array_get_idx(owners, i);
        const char *kind = json_text(owner, 253, "kind", NULL);
        const char *name = json_text(owner, 253, "name", NULL);
        struct json_object *controller = json_member(owner, "controller");
        bool is_controller = json_object_is_type(controller, json_type_boolean) &&
                             json_object_get_boolean(controller);
        /* a Node or DaemonSet among the owners decides, whoever is marked as controller */
        bool decides = kind && (strcmp(kind, "DaemonSet") == 0 || strcmp(kind, "Node") == 0);
        if (kind && (is_controller || decides || !*pod->owner_kind)) {
            pod->owner_kind = kind;
            pod->owner_name = name ? name : "";
        }
        if (decides)
            return;
    }
}

int pod_decode(struct json_object *object, struct kube_pod *ret, struct err *err)
{
    struct json_object *meta = json_member(object, "metadata");
    struct kube_pod pod = {.namespace_ = json_text(meta, NODE_MAX_TEXT, "namespace", NULL),
                           .name = json_text(meta, NODE_MAX_TEXT, "name", NULL),
                           .uid = json_text(meta, NODE_MAX_TEXT, "uid", NULL),
                           .owner_kind = "",
                           .owner_name = ""};
    if (!pod.namespace_ || !pod.name || !pod.uid)
        return err_set(err, EBADMSG, "the answer is not a pod: no metadata.namespace, name, uid");
    /* set by the kubelet on the API object of a static pod (kubernetes/kubernetes pkg/kubelet/types/pod_update.go) */
    struct json_object *annotations = json_member(meta, "annotations");
    pod.mirror = json_member(annotations, "kubernetes.io/config.mirror") != NULL;
    pod.deleting = json_text(meta, 64, "deletionTimestamp", NULL) != NULL;
    find_owner(meta, &pod);
    *ret = pod;
    return 0;
}

bool kube_pod_may_be_evicted(const struct kube_pod *pod, const char **ret_why)
{
    const char *why = NULL;
    if (pod->mirror || strcmp(pod->owner_kind, "Node") == 0)
        why = "it is a static pod: the kubelet would start it again at once";
    else if (strcmp(pod->owner_kind, "DaemonSet") == 0)
        why = "it belongs to a DaemonSet, which would start it again at once";
    if (why && ret_why)
        *ret_why = why;
    return why == NULL;
}

/* --- lists --- */

int list_items(struct json_object *list, const char *what, struct json_object **ret,
               struct err *err)
{
    struct json_object *items = json_member(list, "items");
    *ret = NULL;
    if (!items || json_object_is_type(items, json_type_null))
        return 0;
    if (!json_object_is_type(items, json_type_array))
        return err_set(err, EBADMSG, "the answer is not a list of %s", what);
    *ret = items;
    size_t n = json_object_array_length(items);
    return n < INT_MAX ? (int)n : INT_MAX;
}

int node_list_decode(struct json_object *list, const char *name, const char *const *keys,
                     struct kube_node *ret, const char **ret_version, struct err *err)
{
    struct json_object *items;
    const char *version = json_text(list, NODE_MAX_TEXT, "metadata", "resourceVersion", NULL);
    int n = list_items(list, "Nodes", &items, err);
    if (n < 0)
        return n;
    if (!version || !*version)
        return err_set(err, EBADMSG, "the answer is not a list of Nodes");
    if (n > 1)
        return err_set(err, EBADMSG, "asked for Node %s but got %d Nodes", name, n);
    int r = n == 0 ? 0 : node_decode(json_object_array_get_idx(items, 0), name, keys, ret, err);
    if (r == 0)
        *ret_version = version;
    return r;
}

static int number_of(struct json_object *spec, const char *key)
{
    struct json_object *v = json_member(spec, key);
    int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
    return n >= 0 && n <= 86400 * 365 ? (int)n : -1;
}

bool lease_item_decode(struct json_object *item, struct lease_item *ret)
{
    struct json_object *spec = json_member(item, "spec");
    const char *holder = json_text(spec, LEASE_HOLDER_SIZE - 1, "holderIdentity", NULL);
    const char *acquired = json_text(spec, LEASE_TIME_SIZE - 1, "acquireTime", NULL);
    *ret = (struct lease_item){
        .name = json_text(item, NODE_MAX_TEXT, "metadata", "name", NULL),
        .version = json_text(item, NODE_MAX_TEXT, "metadata", "resourceVersion", NULL),
        .holder = holder ? holder : "",
        .acquired = acquired ? acquired : "",
        .duration_s = number_of(spec, "leaseDurationSeconds"),
        .transitions = number_of(spec, "leaseTransitions"),
    };
    return ret->name && ret->version;
}
