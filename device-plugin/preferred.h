/* Which of the free devices to take: those near to each other, and those whose absence breaks up the fewest. Pure. */
#ifndef CCN_DEVICE_PLUGIN_PREFERRED_H
#define CCN_DEVICE_PLUGIN_PREFERRED_H

#include "device-plugin/offer.h"

/**
 * preferred() - choose
 * @state: per device of the offer: PREFERRED_FREE may be taken, PREFERRED_TAKEN must be in; on return TAKEN are the chosen
 * @size: how many in all; if there are fewer, all free ones are taken
 * Near means, in this order: same partition, same NUMA node, same PCIe switch. The set with the most nearness inside
 * wins; among equals the one with the least nearness to those left over; among equals the lowest addresses.
 */
enum preferred_state { PREFERRED_NO, PREFERRED_FREE, PREFERRED_TAKEN };
void preferred(const struct offer *offer, enum preferred_state state[DP_MAX_DEVICES], size_t size);

#endif
