/* Is the Node object the one of this machine? A wrong --node-name or kubeconfig, or a name that was given to another
 * machine, would make us obey somebody else's orders and tell lies about their devices.
 *
 * Kubelet writes /etc/machine-id and the product UUID of the firmware into Node.status.nodeInfo (kubernetes/kubernetes
 * pkg/kubelet/nodestatus/setters.go, MachineInfo; google/cadvisor machine/info.go). Only what both sides know is compared;
 * one that is equal is enough: clones share a machine-id, and some firmware has no UUID.
 */
#ifndef CCN_AGENT_MACHINE_H
#define CCN_AGENT_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/host.h"

#define MACHINE_ID_SIZE 64

struct machine {
    char id[MACHINE_ID_SIZE];   /* "" = not known */
    char uuid[MACHINE_ID_SIZE]; /* likewise */
};

/* machine_read() - this host; what cannot be read is not known */
void machine_read(const struct host *host, struct machine *ret);

/* machine_is_other() - pure. Return: it is somebody else's; @why then has both sides in words. */
bool machine_is_other(const struct machine *host, const struct machine *node, char *why,
                      size_t room);

#endif
