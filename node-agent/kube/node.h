/* Answers about Nodes and pods, JSON to structs. Pure; input is hostile. */
#ifndef CCN_KUBE_NODE_H
#define CCN_KUBE_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "node-agent/kube/kube.h"

struct json_object;

#define NODE_MAX_KEYS 4096 /* of labels or annotations of one object */
#define NODE_MAX_TEXT 253  /* of a name, uid or resourceVersion */

/* node_decode() - metadata of an object (full or PartialObjectMetadata) that must be Node @name
 * @keys: as in kube_options
 * @ret: the caller's, node_done(). Return: 0; -EBADMSG. */
int node_decode(struct json_object *object, const char *name, const char *const *keys,
                struct kube_node *ret, struct err *err);
void node_done(struct kube_node *node);

/* list_items() - the items of a list. @what: "Nodes", for messages
 * @ret: borrowed; NULL when there are none. Return: their number, or -EBADMSG. */
int list_items(struct json_object *list, const char *what, struct json_object **ret,
               struct err *err);

/* node_list_decode() - a list that may hold Node @name and no other
 * @ret: as of node_decode(); untouched when the list is empty. @ret_version: borrowed from @list.
 * Return: 0; -EBADMSG. */
int node_list_decode(struct json_object *list, const char *name, const char *const *keys,
                     struct kube_node *ret, const char **ret_version, struct err *err);

/* One Lease; texts borrowed. */
struct lease_item {
    const char *name, *version, *holder, *acquired; /* the last two: "" = none, or too long */
    int duration_s, transitions;                    /* -1 = none, or absurd */
};
#define LEASE_HOLDER_SIZE 254
#define LEASE_TIME_SIZE 40
/* lease_item_decode() - Return: false: it has no name or version, so it is none that could be written */
bool lease_item_decode(struct json_object *item, struct lease_item *ret);

/* node_is_same() - nothing that was asked for differs; resourceVersions are not compared */
bool node_is_same(const struct kube_node *a, const struct kube_node *b);

/* node_name_check() - RFC 1123 subdomain, at most 253 characters: it becomes part of URLs */
int node_name_check(const char *name, struct err *err);

/* key_matches() - does @keys (NULL = all; "x*" = prefix) ask for @key? */
bool key_matches(const char *const *keys, const char *key);

/* json_text() - string at a path of members ("metadata", "uid", NULL); NULL when absent, not a string, with a NUL inside,
 * or longer than @max. Borrowed from @object. */
const char *json_text(struct json_object *object, size_t max, ...) __attribute__((sentinel));
struct json_object *json_member(struct json_object *object, const char *key);

enum watch_event { WATCH_CHANGED, WATCH_DELETED, WATCH_BOOKMARK, WATCH_EXPIRED, WATCH_ERROR };

/**
 * watch_event_decode() - one document of a watch stream
 * @ret_object: borrowed from @doc; NULL for WATCH_EXPIRED, WATCH_ERROR
 * Return: 0 (for WATCH_EXPIRED and WATCH_ERROR @err holds the server's words); -EBADMSG. An unknown type is -EBADMSG.
 */
int watch_event_decode(struct json_object *doc, enum watch_event *ret,
                       struct json_object **ret_object, struct err *err);

/* pod_decode() - metadata of a pod; strings borrowed from @object. Return: 0, -EBADMSG. */
int pod_decode(struct json_object *object, struct kube_pod *ret, struct err *err);

#endif
