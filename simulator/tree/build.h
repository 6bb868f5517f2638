/* From a profile to a running node: the model's devices, and the simulated kernel's. */
#ifndef CCN_SIMULATOR_TREE_BUILD_H
#define CCN_SIMULATOR_TREE_BUILD_H

#include "base/err.h"
#include "simulator/tree/profile.h"
#include "simulator/tree/serve.h"

/* build_node() - creates the model's state file and fills `kernel` and the tree; nobody else runs yet.
 * @profile: kept by reference. */
int build_node(const struct profile *profile, const struct serve_options *options, struct err *err);

#endif
