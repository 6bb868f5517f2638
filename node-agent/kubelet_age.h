/* How long the kubelet that answers has been running. Right after its start it lists the pods that it has heard of so far,
 * which may be none although pods hold devices (kubernetes/kubernetes pkg/kubelet/apis/podresources server_v1.go lists the
 * pod manager's pods, which come from the API server). Every kubelet makes its PodResources socket anew, so that another
 * file is another kubelet.
 */
#ifndef CCN_AGENT_KUBELET_AGE_H
#define CCN_AGENT_KUBELET_AGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/host.h"

#define KUBELET_NAME_SIZE 72

struct kubelet_age {
    bool known;
    dev_t dev;
    ino_t ino;
    struct timespec made; /* ctime of the socket */
    int64_t since_ms; /* by the loop's clock: when it was made, or was first seen to be another */
};

/**
 * kubelet_age_ms() - look at the socket
 * @age: remembered between calls, zeroed before the first. That one has only the file's time to go by.
 * Return: age in ms by the loop's clock @now_ms; -1 = there is no socket
 */
int64_t kubelet_age_ms(struct kubelet_age *age, const struct host *host, const char *socket,
                       int64_t now_ms);

/* kubelet_age_name() - which one it was at the last look, "" = none was seen yet; good for comparing only */
void kubelet_age_name(const struct kubelet_age *age, char ret[static KUBELET_NAME_SIZE]);

#endif
