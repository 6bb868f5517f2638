/* What is offered under one resource name: a checked copy of a dp_resource, sorted by address. Pure. */
#ifndef CCN_DEVICE_PLUGIN_OFFER_H
#define CCN_DEVICE_PLUGIN_OFFER_H

#include "device-plugin/device_plugin.h"

struct offer {
    char *name; /* "nvidia.com/GH100_H100_PCIE" */
    size_t n;
    struct dp_device *devices; /* strings owned; none is NULL but cdi */
    char *only_together;       /* NULL: any number */
};

/* dp_offer_new() - Return: NULL with -EINVAL or -E2BIG in @err, naming the resource and the id */
struct offer *dp_offer_new(const struct dp_resource *resource, struct err *err);
void dp_offer_free(struct offer *offer); /* accepts NULL */
/* dp_offer_find() - index of an id of @len bytes, or -1 */
int dp_offer_find(const struct offer *offer, const void *id, size_t len);
/* offer_short_name() - the part after the slash */
const char *offer_short_name(const struct offer *offer);

#endif
