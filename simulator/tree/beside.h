/* Files that belong to this program: beside it as built, or where they were installed. */
#ifndef CCN_SIMULATOR_TREE_BESIDE_H
#define CCN_SIMULATOR_TREE_BESIDE_H

#include <limits.h>

#include "base/err.h"

/* beside_find() - the trap library, the simulated modprobe. ret: absolute path (PATH_MAX). Return: 0 or -ENOENT. */
int beside_find(const char *name, char ret[PATH_MAX], struct err *err);

#endif
