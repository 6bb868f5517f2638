#include "node-agent/naming.h"

#include <stdio.h>
#include <string.h>

#include "device-plugin/ids.h"
#include "node-agent/gpu/selectors.h"

void naming_resource(const struct config *config, const struct nv_device *dev, char *ret,
                     size_t room)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%04x:%04x", dev->vendor_id, dev->device_id);
    const char *name = dev->resource;
    if (config->naming == NAMING_ALIAS)
        name = dev->kind == NV_KIND_GPU ? config->gpu_alias : config->switch_alias;
    if (!*name)
        name = dev->resource; /* an empty alias: by model, as the peers mean it */
    for (size_t i = 0; i < config->names.n; i++) {
        if (strcmp(config->names.pairs[i].key, id) == 0)
            name = config->names.pairs[i].value;
    }
    for (size_t i = 0; i < config->names.n; i++) {
        if (strcmp(config->names.pairs[i].key, dev->bdf) == 0)
            name = config->names.pairs[i].value;
    }
    (void)snprintf(ret, room, "nvidia.com/%s", name);
}

void naming_id(const struct config *config, const struct nv_device *dev, char *ret, size_t room)
{
    struct dp_names names = {dev->bdf, dev->iommu_group, dev->cdev};
    dp_id(config->device_id_style == DEVICE_ID_NUMBER ? DP_ID_NUMBER : DP_ID_BDF, &names, ret,
          room);
}

void naming_partitions(const struct config *config, const struct nv_device *devices, size_t n,
                       const char *ret[static NV_MAX_DEVICES])
{
    for (size_t d = 0; d < n; d++)
        ret[d] = NULL;
    for (size_t i = 0; i < config->partitions.n; i++) {
        bool named[NV_MAX_DEVICES] = {false};
        struct err ignored = ERR_INIT;
        if (selectors_match(config->partitions.pairs[i].key, devices, n, named, &ignored) < 0)
            continue;
        for (size_t d = 0; d < n; d++) {
            if (named[d])
                ret[d] = config->partitions.pairs[i].value;
        }
    }
}

void naming_cdi(const struct nv_device *dev, const char *resource, const char *id,
                struct cdi_device *ret)
{
    const char *slash = strchr(resource, '/');
    *ret = (struct cdi_device){.iommu_group = dev->iommu_group};
    (void)snprintf(ret->bdf, sizeof ret->bdf, "%s", dev->bdf);
    (void)snprintf(ret->id, sizeof ret->id, "%.63s", id);
    (void)snprintf(ret->class, sizeof ret->class, "%.63s", slash ? slash + 1 : resource);
    (void)snprintf(ret->cdev, sizeof ret->cdev, "%s", dev->cdev);
    (void)snprintf(ret->indexed_class, sizeof ret->indexed_class, "%s",
                   dev->kind == NV_KIND_GPU ? NAMING_INDEXED_CLASS : "");
}

bool naming_cdi_durable(const char *directory)
{
    return strncmp(directory, "/run/", 5) != 0 && strncmp(directory, "/var/run/", 9) != 0;
}
