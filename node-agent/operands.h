/* Where a GPU Operator runs too: which of its operands do a duty of ours on this node (REF-K M-SEED-2), and the default
 * mode of its ClusterPolicy (M-SEED-3). Read only, and again and again: its labels flap.
 *
 * An operand counts as running when its label nvidia.com/gpu.deploy.NAME is "true" and a pod of its DaemonSet is on this
 * node: kubelet says so (PodResources lists every pod), which needs no right at the API server. Where kubelet does not
 * answer the label alone counts, and after a restart until it has answered: standing back is the safe side.
 *
 * A policy that cannot be read is what it was at the last answer, also over a restart: an API server that is away must not
 * turn a node's default mode into another one.
 */
#ifndef CCN_AGENT_OPERANDS_H
#define CCN_AGENT_OPERANDS_H

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/config.h"
#include "node-agent/intent.h"
#include "node-agent/kube/kube.h"
#include "node-agent/last_node.h"

struct operands_options {
    struct loop *loop;
    struct rpc *rpc;
    const struct host *host;
    const struct config *config; /* may change between calls */
    struct kube *kube;
    void (*on_change)(void *arg); /* what operands_get() says is another one now */
    void (*on_policy)(void *arg,
                      const char *mode); /* each answer; "" = there is none, or it says nothing */
    void *arg;
};

struct operands;
/* @last: the labels of the last run, where known */
struct operands *operands_new(const struct operands_options *options, const struct last_node *last);
void operands_free(
    struct operands *operands); /* after kube_free(), before rpc_free(); accepts NULL */
/* operands_saw_node() - its labels as the watch shows them; asks for the pods when one says "true" that did not before */
void operands_saw_node(struct operands *operands, const struct last_node *last);
struct stand_back operands_get(const struct operands *operands);

#endif
