/* Device ids: what kubelet, PodResources and CDI call a device, now and under the plugins we replace. Pure.
 *
 * NVIDIA/sandbox-device-plugin uses the IOMMU group number ("65"), with iommufd the number of vfioN ("3", older
 * builds "vfio3"); NVIDIA/kubevirt-gpu-device-plugin the PCI address. Numbers may name another GPU after a reboot, so the
 * address is our default and numbers are for replacing a plugin on a node with running pods.
 */
#ifndef CCN_DEVICE_PLUGIN_IDS_H
#define CCN_DEVICE_PLUGIN_IDS_H

#include <stdbool.h>
#include <stddef.h>

enum dp_id_style { DP_ID_BDF, DP_ID_NUMBER };

/* What names a device has. */
struct dp_names {
    const char *bdf;  /* "0000:65:00.0" */
    int iommu_group;  /* -1 = none */
    const char *cdev; /* "vfio3"; "" = none */
};

/**
 * dp_id() - the id under which a device is advertised
 * DP_ID_NUMBER: number of the cdev where there is one, else of the group; a device that has neither gets its address.
 * @ret: at least 64 bytes
 */
void dp_id(enum dp_id_style style, const struct dp_names *names, char *ret, size_t room);

/**
 * dp_id_names() - may @id, from any of the plugins above, mean this device?
 * A number matches the group and the cdev alike: whoever asks "is it held?" must believe both.
 */
bool dp_id_names(const char *id, const struct dp_names *names);

#endif
