/* The host root below one directory: what is mounted there, and how it is taken away again. */
#ifndef CCN_SIMULATOR_TREE_HOST_H
#define CCN_SIMULATOR_TREE_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "simulator/tree/profile.h"

/* host_tree_refuse_served() - -EBUSY with words that say by whom; what decides is the lock */
int host_tree_refuse_served(const char *root, struct err *err);
/* host_tree_prepare() - with the lock: takes away what a killed server left mounted, and makes the plain directories and files
 * of the root (run, var, etc, lib). */
int host_tree_prepare(const char *root, const struct profile *profile, struct err *err);
/* host_tree_mount() - sys and dev out of ROOT/.sim/fs (being served already), proc of this machine. */
int host_tree_mount(const char *root, bool with_dev, struct err *err);
/* host_tree_unmount() - everything; no error when there is nothing */
void host_tree_unmount(const char *root);
/* host_tree_lock() - this process serves ROOT until it ends. Return: 0 or -EBUSY. */
int host_tree_lock(const char *root, struct err *err);
/* host_tree_pid() - the serving process. Return: pid; -ENOENT never served, -ESRCH it ended (mounts may be left). */
pid_t host_tree_pid(const char *root, struct err *err);

#endif
