/* Keeps a device and the bridges above it awake: power/control "on", and what it was before put back afterwards
 * (REF-P 8.3). A sleeping device answers register reads with all ones and loses writes.
 *
 * What was changed is also on record in a runtime file per function, so that what a killed process left "on" is put back
 * by the next one that holds the same function. The record names the driver that the function had: another one has set
 * power/control to its own liking. */
#ifndef CCN_GPU_POWER_H
#define CCN_GPU_POWER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

#define POWER_MAX_LEVELS 12 /* bridges between a host bridge and a GPU: 3 to 5 in HGX machines */

struct power {
    const char *dir; /* of the records, below the host root */
    size_t n;        /* what was changed, outermost bridge first */
    char bdf[POWER_MAX_LEVELS][BDF_SIZE];
};

/* power_hold() - idempotent. A device without power/control is left as it is. Return: 0 or -errno. */
int power_hold(struct power *power, const struct host *host, const char *bdf, struct err *err);
/* power_release() - "auto" again where it was; devices that have gone are skipped. Return: 0 or the last -errno. */
int power_release(struct power *power, const struct host *host, struct err *err);
/* power_forget() - a driver was bound or unbound, which sets it anew: don't put back what was before */
void power_forget(struct power *power, const struct host *host, const char *bdf);

#endif
