/* The DevicePlugin service without its transport: bytes in, bytes out. Pure but for may_allocate. */
#ifndef CCN_DEVICE_PLUGIN_SERVICE_H
#define CCN_DEVICE_PLUGIN_SERVICE_H

#include "device-plugin/offer.h"

/* service_list() - a ListAndWatchResponse; @offer NULL: the empty list. The caller frees it. */
uint8_t *service_list(const struct offer *offer, size_t *ret_n);
/* service_register() - a RegisterRequest for the socket name @endpoint */
uint8_t *service_register(const char *resource, const char *endpoint, size_t *ret_n);
/* service_options() - answer to GetDevicePluginOptions: preferred allocation yes, PreStartContainer no (for a VM that has
 * booted with its devices it comes too late) */
void service_options(struct rpc_answer *answer);
/* service_preferred() - never an error but for a message that cannot be decoded: an error fails the pod's admission */
void service_preferred(const struct offer *offer, const uint8_t *in, size_t n,
                       struct rpc_answer *answer);

/* What an Allocate was about, for whoever counts: ids as asked for, cut at DP_MAX_DEVICES. */
struct service_asked {
    size_t n;
    char *ids[DP_MAX_DEVICES];
};
void service_asked_free(struct service_asked *asked);

/* service_allocate() - @options: may_allocate and its argument; @asked is filled in any case, freed by the caller */
void service_allocate(const struct offer *offer, const struct dp_options *options,
                      const uint8_t *in, size_t n, struct rpc_answer *answer,
                      struct service_asked *asked);

#endif
