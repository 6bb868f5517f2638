/* A Kubernetes client that keeps what it was asked for until the test answers: for tests of who uses one. */
#ifndef CCN_TEST_FAKE_KUBE_H
#define CCN_TEST_FAKE_KUBE_H

#include <stdbool.h>
#include <stddef.h>

#include "node-agent/kube/kube.h"

struct fake_request {
    bool pending;
    kube_cb *cb;
    void *arg;
};

/* Stands behind the opaque struct kube: hand (struct kube *)&fake to the code under test. */
struct fake_kube {
    unsigned n_patches, n_conditions, n_removals, n_events;
    char patch
        [1024]; /* "key=value;…" of the last patch, labels then annotations; value "-" = deleted */
    char condition[1200]; /* "status/reason/message" of the last one, "removed" */
    char event[64];       /* reason of the last Event */
    int64_t transition_ms;
    struct fake_request patching, conditioning;
};

/* Answer what is pending; @code 0 = done, else an errno value; @retry_after_ms -1 = the server asks for nothing. */
void fake_kube_answer(struct fake_request *request, int code, int retry_after_ms);

#endif
