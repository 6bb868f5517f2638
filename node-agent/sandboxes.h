/* Which pod a process that has a device belongs to, where kubelet's PodResources does not say: a VM that is still ending,
 * devices given to a sandbox by other ways. Only for the message that names who is waited for; what is in use is decided
 * without it. The container runtime is asked once for each set of such processes, beside the looks, never within one;
 * again after some seconds when it gave no answer.
 */
#ifndef CCN_AGENT_SANDBOXES_H
#define CCN_AGENT_SANDBOXES_H

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/node_state.h"

#define SANDBOXES_MAX 32 /* processes at a time; what is more is named without its pod */

struct sandboxes_options {
    struct loop *loop;
    struct rpc *rpc;
    const struct host *host;
    void (*on_change)(void *arg); /* a process has a pod now that had none */
    void *arg;
};

struct sandboxes;
struct sandboxes *sandboxes_new(const struct sandboxes_options *options);
void sandboxes_free(struct sandboxes *sandboxes); /* accepts NULL; before its rpc */

/* sandboxes_fill() - observed_device.holder_pod of every device with holders and no pod; asks for what is not known.
 * @socket: as for cri_ask(); "" = nobody is asked */
void sandboxes_fill(struct sandboxes *sandboxes, const char *socket, struct observed *observed);

#endif
