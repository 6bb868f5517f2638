/* Before the first order of a Node object is taken: is it the Node of this machine (machine.h)? Asked once for each uid.
 * One that is somebody else's gets nothing from us, no label, condition or Event, and we take no order from it; it is looked
 * at again every minute. An API server that does not answer the question is no reason to stand still.
 */
#ifndef CCN_AGENT_NODE_CHECK_H
#define CCN_AGENT_NODE_CHECK_H

#include <stdbool.h>

#include "base/host.h"
#include "base/loop.h"
#include "node-agent/kube/kube.h"

struct node_check;
/* @on_answer: node_check_passes() may be asked again, from the loop. */
struct node_check *node_check_new(struct loop *loop, struct kube *kube, const struct host *host,
                                  void (*on_answer)(void *arg), void *arg);
void node_check_free(struct node_check *check); /* accepts NULL; after kube_free() */

/* node_check_passes() - may @node be believed? false: it is asked about, or somebody else's */
bool node_check_passes(struct node_check *check, const struct kube_node *node);
/* node_check_foreign() - why the Node is not ours, one sentence with the cure; "" = nothing says so */
const char *node_check_foreign(const struct node_check *check);

#endif
