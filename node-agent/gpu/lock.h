/* One worker per device: a lock file that every instance honours (design 3.5). NVIDIA's own tool has none, and two
 * clients of one mailbox steal each other's answers (REF-P 11.4). */
#ifndef CCN_GPU_LOCK_H
#define CCN_GPU_LOCK_H

#include <stdbool.h>

#include "base/err.h"
#include "base/host.h"

#define LOCK_DIR "/run/ccnode/lock"

/**
 * lock_take() - @dir/@name below the host root, exclusively, until the descriptor is closed; it holds our pid
 * Return: descriptor; -EBUSY naming the pid that has it; -errno.
 */
int lock_take(const struct host *host, const char *dir, const char *name, struct err *err);

/* lock_holder() - the pid that the file says; 0 when it says none. The one of a lock that nobody holds is of the last. */
int lock_holder(const struct host *host, const char *dir, const char *name);

/* lock_is_held() - somebody has it, in whatever pid namespace. False when there is no such file. */
bool lock_is_held(const struct host *host, const char *dir, const char *name);

#endif
