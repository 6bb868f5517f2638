/* Which devices the configuration gives us (devices.include, devices.exclude): the one place, for the agent and for
 * ccnode. Pure. */
#ifndef CCN_AGENT_MANAGED_H
#define CCN_AGENT_MANAGED_H

#include <stdbool.h>

#include "base/err.h"
#include "node-agent/config.h"
#include "node-agent/gpu/device.h"

/**
 * managed_mark() - @ret: n flags, all set or cleared
 * A selector that names nothing here is fine: one file may serve many kinds of node. A part of an address that several
 * devices have is a mistake: of those to be included it then names none, of those to be excluded all.
 * Return: 0; -ENOTUNIQ there is such a mistake, @err tells the first one; @ret is valid then too.
 */
int managed_mark(const struct config *config, const struct nv_device *devices, size_t n, bool *ret,
                 struct err *err);

#endif
