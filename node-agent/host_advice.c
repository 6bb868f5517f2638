#include "node-agent/host_advice.h"

#include <string.h>

#define HGX_GPUS 8 /* of an HGX H100 or H200 board; four-GPU boards have no NVSwitch */

bool host_advice_wants_tee(const struct intent *intent)
{
    for (size_t i = 0; i < intent->n; i++) {
        const struct device_intent *wish = &intent->devices[i];
        if (wish->managed && wish->mode != CC_MODE_OFF && wish->mode != CC_MODE_UNKNOWN)
            return true;
    }
    return false;
}

void host_advice_tee(const struct intent *intent, const struct observed *observed,
                     struct advice *ret)
{
    if (!host_advice_wants_tee(intent) || observed->snp || observed->tdx)
        return;
    ret->blocks = true;
    advice_add(
        ret,
        "confidential pods cannot start here, although the devices follow their order: "
        "this host has neither SEV-SNP (kvm_amd) nor TDX (kvm_intel) switched on; switch "
        "it on in firmware and kernel (ccnode preflight names what is missing), or set " LABEL_MODE
        "=off");
}

void host_advice_vfio(const struct intent *intent, const struct observed *observed,
                      struct advice *ret)
{
    size_t legacy = 0;
    if (!host_advice_wants_tee(intent) || !observed->tdx)
        return;
    for (size_t i = 0; i < observed->n; i++) {
        const struct nv_device *dev = &observed->devices[i].dev;
        legacy += intent->devices[i].managed && dev->driver_is_vfio && !*dev->cdev;
    }
    if (legacy == 0)
        return;
    advice_add(ret,
               "TDX guests need iommufd, and %zu of these devices "
               "have VFIO groups only (no /dev/vfio/devices/vfioN); use a kernel with "
               "CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV (6.6 and newer)",
               legacy);
}

/* NVIDIA's names say which Hopper boards are SXM modules; beside NVSwitches every one is. */
static bool is_on_hgx(const struct nv_device *dev, bool switches)
{
    return dev->kind == NV_KIND_GPU && strcmp(dev->chip, "gh100") == 0 &&
           (switches || strstr(dev->name, "SXM"));
}

/* Not one that is only being changed or read: that passes. */
static bool is_lost(const struct observed_device *seen, const struct device_plan *plan)
{
    return plan->decision == DECISION_REFUSED || seen->failures > 0 || seen->quarantined ||
           (plan->decision == DECISION_IN_PLACE && !seen->dev.driver_is_vfio);
}

void host_advice_switches(const struct intent *intent, const struct observed *observed,
                          const struct plan *plan, struct advice *ret)
{
    size_t gpus = 0, switches = 0, excluded = 0, lost = 0;
    for (size_t i = 0; i < observed->n; i++) {
        if (observed->devices[i].dev.kind != NV_KIND_NVSWITCH)
            continue;
        switches++;
        excluded += !intent->devices[i].managed;
        lost += intent->devices[i].managed && is_lost(&observed->devices[i], &plan->devices[i]);
    }
    for (size_t i = 0; i < observed->n; i++)
        gpus += intent->devices[i].managed && is_on_hgx(&observed->devices[i].dev, switches > 0);
    if (gpus < HGX_GPUS || (switches > 0 && excluded + lost == 0))
        return;
    ret->blocks = intent->mode == CC_MODE_PPCIE;
    advice_add(
        ret,
        "a pod with all %zu GPUs of this HGX board fails with CUDA error 802 (system not yet "
        "initialized), since it needs the NVSwitches too",
        gpus);
    if (switches == 0)
        advice_add(ret, "no NVSwitch is on the PCI bus: look for them with lspci -d 10de: on the "
                        "host and in its kernel log, power it off and on if they are missing");
    if (excluded > 0)
        advice_add(ret,
                   "%zu of %zu NVSwitches are excluded: put nvswitches into devices.include, "
                   "and take them out of devices.exclude",
                   excluded, switches);
    if (lost > 0)
        advice_add(ret,
                   "%zu of %zu NVSwitches failed or are not bound to VFIO: ccnode list says "
                   "which and why; vfio.manage: true lets the agent bind them",
                   lost, switches);
}
