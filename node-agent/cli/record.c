#include "node-agent/cli/record.h"

#include <string.h>

#include "base/fs.h"

static struct journal_device *entry(struct cli *cli, const struct nv_device *dev)
{
    struct journal_device *e = journal_put(&cli->journal, dev->bdf);
    if (e->device_id != dev->device_id) {
        *e = (struct journal_device){.device_id = dev->device_id};
        (void)snprintf(e->bdf, sizeof e->bdf, "%s", dev->bdf);
    }
    return e;
}

static int save(struct cli *cli, struct err *err)
{
    int r = fs_mkdirs(&cli->host, cli->config.state_directory, err);
    return r < 0 ? r : journal_save(&cli->host, cli->config.state_directory, &cli->journal, err);
}

int record_before(struct cli *cli, const struct intent *intent, const struct plan *plan,
                  struct err *err)
{
    journal_begin_boot(&cli->journal, cli->observed.boot_id);
    for (size_t i = 0; i < plan->n; i++) {
        const struct nv_device *dev = &cli->observed.devices[i].dev;
        if (plan->devices[i].n_steps == 0)
            continue;
        struct journal_device *e = entry(cli, dev);
        if (!dev->driver_is_vfio)
            (void)snprintf(e->original_driver, sizeof e->original_driver, "%s", dev->driver);
        if (intent->devices[i].mode != CC_MODE_UNKNOWN) {
            e->changing_to = intent->devices[i].mode;
            e->verified_mode = CC_MODE_UNKNOWN;
            e->settled = false;
        }
    }
    return save(cli, err);
}

void record_after(struct cli *cli, const struct intent *intent, const struct act_device *results,
                  size_t n)
{
    struct err err = ERR_INIT;
    for (size_t i = 0; i < n; i++) {
        if (results[i].result == ACT_NOTHING || intent->devices[i].mode == CC_MODE_UNKNOWN)
            continue;
        struct journal_device *e = entry(cli, &cli->observed.devices[i].dev);
        enum cc_mode mode = results[i].verified;
        const struct observed_device *d = &cli->observed.devices[i];
        /* a chain that only binds: what was read before it stands */
        if (mode == CC_MODE_UNKNOWN && d->knowledge == KNOWN_REGISTERS &&
            d->report.active == intent->devices[i].mode && d->report.pending == d->report.active)
            mode = d->report.active;
        e->settled = results[i].result == ACT_DONE && mode != CC_MODE_UNKNOWN;
        e->verified_mode = e->settled ? mode : CC_MODE_UNKNOWN;
        /* an interrupted or failed change stays on record: pending may differ from active */
        if (results[i].result == ACT_DONE || results[i].undone)
            e->changing_to = CC_MODE_UNKNOWN;
    }
    if (save(cli, &err) < 0)
        cli_warn("%s; the journal vouches for no mode of the devices that were changed", err.msg);
}
