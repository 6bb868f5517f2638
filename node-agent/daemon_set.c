#include "node-agent/daemon_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool daemon_set_parse(const char *text, struct daemon_set *ret)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash || slash == text || !slash[1] || (size_t)(slash - text) >= sizeof ret->namespace_ ||
        strlen(slash + 1) >= sizeof ret->name)
        return false;
    (void)snprintf(ret->namespace_, sizeof ret->namespace_, "%.*s", (int)(slash - text), text);
    (void)snprintf(ret->name, sizeof ret->name, "%s", slash + 1);
    return true;
}

bool daemon_set_own(struct daemon_set *ret)
{
    return daemon_set_parse(getenv("CCNODE_DAEMONSET"), ret);
}

bool daemon_set_has_pod(const char *daemon_set, const char *pod)
{
    size_t n = strlen(daemon_set);
    return strncmp(pod, daemon_set, n) == 0 && pod[n] == '-' && pod[n + 1] != '\0' &&
           !strchr(pod + n + 1, '-');
}
