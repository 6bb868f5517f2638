/* ccnode-sim --profile NAME --root DIR: builds the node and serves it until SIGTERM. */
#ifndef CCN_SIMULATOR_TREE_SERVE_H
#define CCN_SIMULATOR_TREE_SERVE_H

#include <stdbool.h>

#include "base/err.h"

struct serve_options {
    const char *profile, *root;
    double scale; /* of every delay; 1 = as real hardware is estimated, 0 = none */
    bool foreground, device_nodes;
    struct profile_delay *delays; /* on top of the profile's */
    unsigned n_delays;
};

int serve(const struct serve_options *options, struct err *err);

#endif
