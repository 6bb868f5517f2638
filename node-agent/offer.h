/* What is offered: the device plugin's lists and the CDI files, always in the order that keeps both true: a device is
 * taken from kubelet before its CDI entry goes, and resolvable by CDI before kubelet hears of it.
 *
 * A managed device stays in kubelet's list as Unhealthy while it is changed, busy or broken; it leaves the list when it
 * is no longer managed, unbound for good, or gone (REF-K D4).
 */
#ifndef CCN_AGENT_OFFER_H
#define CCN_AGENT_OFFER_H

#include <stdbool.h>

#include "base/rpc.h"
#include "device-plugin/device_plugin.h"
#include "node-agent/plan.h"

struct offer;

struct offer_options {
    struct loop *loop;
    struct rpc *rpc; /* NULL: no device plugin, CDI only */
    const struct host *host;
    void (*on_event)(void *arg, const struct dp_event *event);
    void *arg;
};

struct offer *offer_new(const struct offer_options *options);
/* offer_stop() - as dp_stop(); CDI files stay (REF-K M-CDI-7). @done may be called at once when there is no plugin. */
void offer_stop(struct offer *offer, enum dp_stop how, void (*done)(void *arg), void *arg);
void offer_free(struct offer *offer); /* accepts NULL */

/* offer_resource() - "nvidia.com/NAME" under which a device is advertised by this configuration */
void offer_resource(const struct config *config, const struct nv_device *dev, char *ret,
                    size_t room);

/**
 * offer_set() - bring both to what @plan allows (device_plan.serve)
 * Return: 0; negative: CDI files or lists could not be made as they must be, @err says which and the cure; nothing
 * is then offered that cannot be resolved.
 */
int offer_set(struct offer *offer, const struct config *config, const struct intent *intent,
              const struct observed *observed, const struct plan *plan, struct err *err);

/* offer_has() - kubelet has the device as healthy (or there is no plugin of ours) and CDI resolves it */
bool offer_has(const struct offer *offer, const char *bdf);
/* offer_wants() - it would be offered, but kubelet has not accepted its resource yet */
bool offer_wants(const struct offer *offer, const char *bdf);

#endif
