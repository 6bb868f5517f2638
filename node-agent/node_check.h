/* Before the first order of a Node object is taken: is it the Node of this machine (machine.h)? Asked once for each uid,
 * until there is an answer: again after 1, 2, 4 … 60 s; meanwhile the last known orders count. Who may not ask (403) is
 * believed, with a warning. One that is somebody else's gets nothing from us, no label, condition or Event, and we take no
 * order from it; it is looked at again every minute.
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
/* node_check_error() - why there is no answer yet; "" = there is, or it is just being asked */
const char *node_check_error(const struct node_check *check);
/* node_check_foreign() - why the Node is not ours, one sentence with the cure; "" = nothing says so */
const char *node_check_foreign(const struct node_check *check);

#endif
