/* What the host lacks for the pods that are wanted, as far as the looks of the agent show it. Pure.
 *
 * Each does nothing when nothing is wrong; none changes what is done to the devices: an explicit order is the operator's,
 * and is carried out. */
#ifndef CCN_AGENT_HOST_ADVICE_H
#define CCN_AGENT_HOST_ADVICE_H

#include "node-agent/advice.h"
#include "node-agent/plan.h"

/* host_advice_wants_tee() - some managed device is to be in a mode for confidential guests */
bool host_advice_wants_tee(const struct intent *intent);
/* host_advice_tee() - a confidential mode is wanted, and the host can start no confidential guest */
void host_advice_tee(const struct intent *intent, const struct observed *observed,
                     struct advice *ret);
/* host_advice_vfio() - TDX guests take devices by iommufd only, and devices have the older VFIO groups alone */
void host_advice_vfio(const struct intent *intent, const struct observed *observed,
                      struct advice *ret);
/* host_advice_switches() - the eight GPUs of a Hopper HGX board are managed, and not all of its NVSwitches are offered */
void host_advice_switches(const struct intent *intent, const struct observed *observed,
                          const struct plan *plan, struct advice *ret);

#endif
