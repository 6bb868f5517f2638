/* CDI specs of this host as ccnode writes them: every managed device that is bound to VFIO and whose node exists. */
#ifndef CCN_CLI_CDI_FILES_H
#define CCN_CLI_CDI_FILES_H

#include "cdi/cdi.h"
#include "node-agent/cli/cli.h"

/* cdi_files_build() - without the devices flagged in @without (as observed.devices; NULL: with all) */
int cdi_files_build(const struct cli *cli, const bool *without, struct cdi_specs *ret,
                    struct err *err);
/* cdi_files_dir() - --dir, or the configured directory */
const char *cdi_files_dir(const struct cli *cli);
/* cdi_files_update() - keep files that "ccnode cdi write" once made true while devices change: entries of @without go.
 * Where there are none of ours nothing is written. Return: 0 or -errno. */
int cdi_files_update(const struct cli *cli, const bool *without, struct err *err);

#endif
