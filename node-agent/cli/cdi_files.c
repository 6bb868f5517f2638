#include "node-agent/cli/cdi_files.h"

#include <string.h>

#include "base/auto.h"
#include "node-agent/naming.h"

const char *cdi_files_dir(const struct cli *cli)
{
    return cli->options.dir ? cli->options.dir : cli->config.cdi_directory;
}

static void name_device(const struct cli *cli, const struct nv_device *dev, struct cdi_device *ret)
{
    char resource[128], id[64];
    naming_resource(&cli->config, dev, resource, sizeof resource);
    naming_id(&cli->config, dev, id, sizeof id);
    naming_cdi(dev, resource, id, ret);
}

static bool is_offered(const struct cli *cli, size_t i, const bool *without)
{
    const struct nv_device *dev = &cli->observed.devices[i].dev;
    return !(without && without[i]) && dev->driver_is_vfio && dev->group_viable &&
           (dev->group_node || *dev->cdev);
}

int cdi_files_build(const struct cli *cli, const bool *without, struct cdi_specs *ret,
                    struct err *err)
{
    bool managed[NV_MAX_DEVICES];
    AUTO_FREE struct cdi_device *devices = xcalloc(cli->observed.n + 1, sizeof *devices);
    size_t n = 0;
    cli_managed(cli, managed);
    for (size_t i = 0; i < cli->observed.n; i++) {
        if (!managed[i])
            continue;
        name_device(cli, &cli->observed.devices[i].dev, &devices[n]);
        devices[n++].withdrawn = !is_offered(cli, i, without);
    }
    int r = cdi_build(devices, n, ret, err);
    if (r < 0)
        cdi_specs_free(ret);
    return r;
}

int cdi_files_update(const struct cli *cli, const bool *without, struct err *err)
{
    const char *dir = cdi_files_dir(cli);
    if (!cdi_has_ours(&cli->host, dir))
        return 0;
    struct cdi_specs specs;
    int r = cdi_files_build(cli, without, &specs, err);
    if (r < 0)
        return r;
    r = cdi_sync(&cli->host, dir, &specs, naming_cdi_durable(dir), NULL, err);
    cdi_specs_free(&specs);
    return r;
}
