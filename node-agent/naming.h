/* What a device is called: its resource at kubelet, its id, its entry in CDI. The one place, for the agent and for
 * ccnode, since all three must agree (REF-K M-KATA-1). Pure.
 */
#ifndef CCN_AGENT_NAMING_H
#define CCN_AGENT_NAMING_H

#include <stdbool.h>

#include "cdi/cdi.h"
#include "node-agent/config.h"

/* Class with index names for the 2023 guide's "nvidia.com/pgpu=0", whatever the resources are called; GPUs only. */
#define NAMING_INDEXED_CLASS "pgpu"

/* naming_resource() - "nvidia.com/NAME" under which a device is advertised by this configuration */
void naming_resource(const struct config *config, const struct nv_device *dev, char *ret,
                     size_t room);
/* naming_id() - its device id in the configured style; @ret: at least 64 bytes */
void naming_id(const struct config *config, const struct nv_device *dev, char *ret, size_t room);

/* naming_partitions() - for each of @n devices the NVLink partition that devicePlugin.partitions gives it, NULL = none;
 * the last entry that names a device counts, one that names none is for other nodes. Borrowed from @config. */
void naming_partitions(const struct config *config, const struct nv_device *devices, size_t n,
                       const char *ret[static NV_MAX_DEVICES]);

/* naming_cdi() - the entry of a device that is bound to VFIO, under this resource and id */
void naming_cdi(const struct nv_device *dev, const char *resource, const char *id,
                struct cdi_device *ret);

/* naming_cdi_durable() - whether a CDI directory survives a boot, so that its files need an fsync */
bool naming_cdi_durable(const char *directory);

#endif
