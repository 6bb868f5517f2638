/* Brings what publish.h derived onto the Node: one merge patch for labels and annotation together, then the condition.
 * At most one request of each kind is under way; what changes meanwhile is sent afterwards, the newest only.
 *
 *   labels       | publisher_want() differs     | answer                        | the watch shows other values
 *   -------------|------------------------------|-------------------------------|------------------------------
 *   settled      | patch now                    | -                             | put right after a short wait
 *   under way    | kept for later               | settled, or patch again       | ignored: may be from before
 *   waiting      | kept for later               | -                             | -          (after a failure)
 *
 * A difference in the annotation or in the condition's message alone waits a little, so that a change of mode costs two
 * patches and two conditions and not one for each device.
 * All on the loop's thread.
 */
#ifndef CCN_AGENT_PUBLISHER_H
#define CCN_AGENT_PUBLISHER_H

#include <stdbool.h>

#include "base/loop.h"
#include "node-agent/kube/kube.h"
#include "node-agent/publish.h"

struct publisher;

/* @on_progress: a request has ended, well or not; from the loop. */
struct publisher *publisher_new(struct loop *loop, struct kube *kube,
                                void (*on_progress)(void *arg), void *arg);
void publisher_free(struct publisher *publisher); /* accepts NULL; after kube_free() */

/* publisher_saw_node() - the watch shows the Node. */
void publisher_saw_node(struct publisher *publisher, const struct kube_node *node);
void publisher_want(struct publisher *publisher, const struct published *published);

/* publisher_withdraw() - the wish is from now on that nothing of ours is on the Node, gpu.present apart. */
void publisher_withdraw(struct publisher *publisher);

/* publisher_may_say_ready() - the Node may say cc.ready.state=true now, or soon because a patch is under way whose answer
 * is not known. Before the first hardware write this must be false. */
bool publisher_may_say_ready(const struct publisher *publisher);
/* publisher_is_telling() - a patch went out less than PUBLISHER_TELL_MS ago and is not answered. Hardware waits for it, so that a
 * crash leaves no old cc.mode.state on the Node; not longer, for the API server may be away for hours. */
#define PUBLISHER_TELL_MS 1000
bool publisher_is_telling(const struct publisher *publisher);
/* publisher_is_settled() - the Node says what is wanted, as far as we know. */
bool publisher_is_settled(const struct publisher *publisher);
/* publisher_denied_labels(), _condition() - the API server forbids (401, 403) to write the labels, or the condition: why, "" = it does not.
 * on_progress is called when it changes. */
const char *publisher_denied_labels(const struct publisher *publisher);
const char *publisher_denied_condition(const struct publisher *publisher);
/* publisher_error() - why the last patch failed; "" = it did not. */
const char *publisher_error(const struct publisher *publisher);

#endif
