/* ccnode-sim exec and env: running programs against the simulated node. */
#ifndef CCN_SIMULATOR_TREE_EXEC_H
#define CCN_SIMULATOR_TREE_EXEC_H

#include "base/err.h"

/* exec_env() - the trap's environment into this process: LD_PRELOAD, CCNODE_SIM_STATE, CCNODE_SIM_ROOT.
 * A preload that is set already stays behind ours. Return: 0, -ENOENT when the trap library is missing. */
int exec_env(const char *root, struct err *err);

/* exec_namespace() - a private mount namespace in which /sys is the simulated one, and /dev has its nodes.
 * Refuses (-EPERM) when /sys is then not the simulated one, or a real NVIDIA device node stays visible. */
int exec_namespace(const char *root, struct err *err);

#endif
