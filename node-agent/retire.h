/* The agent's end when it is uninstalled and not only restarted: what it said and offered is taken back, devices are left
 * as they are.
 *
 * The chart's pre-delete hook runs uninstall_main(): it deletes the DaemonSet in the foreground and waits until its pods are
 * gone, while the agents still have their rights. An agent that is asked to end and finds its DaemonSet
 * ($CCNODE_DAEMONSET, "namespace/name") being deleted retires: labels, annotation and condition leave the Node, the
 * resources leave kubelet, CDI and validation files leave the host. The journal stays: it names the drivers of before.
 */
#ifndef CCN_AGENT_RETIRE_H
#define CCN_AGENT_RETIRE_H

#include <stdbool.h>

struct agent;

#define RETIRE_MS 10000 /* an API server that does not answer holds up the end no longer */

/**
 * retire() - ask, and take back when it is an uninstallation
 * @done: once, from the loop; also when nothing was to be done or it did not work
 * Return: false: there is no DaemonSet to ask for, @done is not called.
 */
bool retire(struct agent *agent, void (*done)(void *arg, bool retired), void *arg);

/* uninstall_main() - for the hook: @daemon_set is "namespace/name". Return: exit status. */
int uninstall_main(const char *daemon_set, const char *kubeconfig);

#endif
