/* Where a GPU Operator runs too: which of its operands do a duty of ours on this node (REF-K M-SEED-2), and the default
 * mode of its ClusterPolicy (M-SEED-3). Read only, and again and again: its labels flap.
 *
 * An operand counts as running when its label nvidia.com/gpu.deploy.NAME is "true" and a pod of its DaemonSet is on this
 * node. Where the pods may not be listed the label alone counts: standing back is the safe side.
 */
#ifndef CCN_AGENT_OPERANDS_H
#define CCN_AGENT_OPERANDS_H

#include <stdbool.h>

#include "base/loop.h"
#include "node-agent/intent.h"
#include "node-agent/kube/kube.h"

struct operands;

/* @on_change: what operands_get() or operands_policy() says has changed. */
struct operands *operands_new(struct loop *loop, struct kube *kube, void (*on_change)(void *arg),
                              void *arg);
void operands_free(struct operands *operands); /* after kube_free(); accepts NULL */
/* operands_saw_node() - labels as the watch shows them; asks for the pods when a label says "true". */
void operands_saw_node(struct operands *operands, const struct kube_node *node);
struct stand_back operands_get(const struct operands *operands);
enum cc_mode operands_policy(const struct operands *operands); /* UNKNOWN = none */

#endif
