/* The orders last seen on the Node, kept on disk so that an agent that restarts while the API server is away goes on with
 * them: <state directory>/last-node.json. Only keys that are orders are kept (labels of ours are results, not orders),
 * and the default mode of the GPU Operator's ClusterPolicy, which is no part of the Node but an order as well.
 */
#ifndef CCN_AGENT_LAST_NODE_H
#define CCN_AGENT_LAST_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/intent.h"

#define LAST_NODE_MAX_PAIRS 64
#define LAST_NODE_POLICY_SIZE 65

struct last_pair {
    char *key, *value;
};

struct last_node {
    bool known;
    char name[254];    /* the Node they belong to: a file of another node is not used */
    bool policy_known; /* the API server has answered what the GPU Operator's ClusterPolicy says */
    char policy
        [LAST_NODE_POLICY_SIZE]; /* its spec.ccManager.defaultMode as it is; "" = it says nothing */
    size_t n_labels, n_annotations;
    struct last_pair labels[LAST_NODE_MAX_PAIRS], annotations[LAST_NODE_MAX_PAIRS];
};

struct last_source {
    const char *key, *value;
};

/* last_node_set() - replace what is known. Return: whether an order differs. */
bool last_node_set(struct last_node *last, const char *name, const struct last_source *labels,
                   size_t n_labels, const struct last_source *annotations, size_t n_annotations);
/* last_node_set_policy() - @mode "" = there is no ClusterPolicy, or it says nothing. Return: whether it differs. */
bool last_node_set_policy(struct last_node *last, const char *mode);
/* last_node_label() - NULL when it is not there */
const char *last_node_label(const struct last_node *last, const char *key);
void last_node_done(struct last_node *last);

/* Return: 1 read, 0 there is none, negative: unusable (ret is then not known). Bytes from outside. */
int last_node_load(const struct host *host, const char *dir, const char *name,
                   struct last_node *ret, struct err *err);
int last_node_parse(const char *text, size_t len, const char *name, struct last_node *ret,
                    struct err *err);
int last_node_save(const struct host *host, const char *dir, const struct last_node *last,
                   struct err *err);

#endif
