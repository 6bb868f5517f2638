/* The DaemonSet that the agent runs in, and pods of DaemonSets by their names. */
#ifndef CCN_AGENT_DAEMON_SET_H
#define CCN_AGENT_DAEMON_SET_H

#include <stdbool.h>

struct daemon_set {
    char namespace_[64];
    char name[254];
};

/* daemon_set_parse() - "namespace/name"; NULL is none. daemon_set_own() - of $CCNODE_DAEMONSET, which the chart sets.
 * Return: false = there is none. */
bool daemon_set_parse(const char *text, struct daemon_set *ret);
bool daemon_set_own(struct daemon_set *ret);
/* daemon_set_has_pod() - a DaemonSet names its pods NAME-xxxxx (kubernetes/kubernetes pkg/controller, GenerateName) */
bool daemon_set_has_pod(const char *daemon_set, const char *pod);

#endif
