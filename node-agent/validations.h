/* The readiness files that other operands wait for (REF-K 5.4): workload-type, vfio-pci-ready, cc-manager-ready,
 * .cc-manager-ctr-ready. They are there exactly while what they say is true; only files with our content are removed,
 * workload-type only where no operand that writes it too runs.
 */
#ifndef CCN_AGENT_VALIDATIONS_H
#define CCN_AGENT_VALIDATIONS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/host.h"

struct validations {
    const char *workload; /* "vm-passthrough", "container"; NULL = it is not for us to say */
    bool vfio_ready;
    bool mode_ready;
    bool leave_vfio,
        leave_mode; /* an operand of the GPU Operator has that duty and writes that file */
};

/* validations_sync() - make the files in @dir (below the host root) say that. Return: 0, or -errno of the first trouble. */
int validations_sync(const struct host *host, const char *dir, const struct validations *wanted,
                     struct err *err);

#endif
