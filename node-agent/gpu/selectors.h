/* Device selectors, as NVIDIA's tool has them (interface.md 2): which devices of a sorted inventory a text names.
 *
 *   0000:18:00.0, 18:00.0, 18:00   a BDF or a part of it that only one device has
 *   10de:2331                      every device of that vendor and device id
 *   gpus, nvswitches               all of that kind
 *   gpus[0], gpus[1:3], gpus[2:]   by place in BDF order; the second number is the first one left out, so greater
 *   A,B                            all of these
 * Letters in either case. Pure.
 */
#ifndef CCN_GPU_SELECTORS_H
#define CCN_GPU_SELECTORS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "node-agent/gpu/device.h"

#define SELECTOR_SIZE 64 /* of one, with the zero */

/* selectors_is_one() - @text is one selector, whatever it names on a node; a list is not */
bool selectors_is_one(const char *text);

/**
 * selectors_match() - mark the devices that @text names
 * @ret: n flags; the named ones become true, the others stay as they are
 * Return: how many @text names; -ENODEV none, -ENOTUNIQ a part of a BDF that several devices have,
 * -EINVAL not a selector. @ret is untouched then.
 */
int selectors_match(const char *text, const struct nv_device *devices, size_t n, bool *ret,
                    struct err *err);

#endif
