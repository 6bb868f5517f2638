/* What Linux knows of a device's PCIe link, errors and power, from sysfs alone. Inside the program.
 *
 * None of these files takes the device's lock, but the link is read from configuration space: newer kernels first wake
 * a device in D3cold, and the port above it, for that. So it is left out while the device is in D3cold; and this is a
 * worker's job, since a port that does not wake may take long.
 * Formats: Linux drivers/pci/pci-sysfs.c and drivers/pci/pcie/aer.c. A file that is absent, unreadable or odd is not known.
 */
#ifndef CCN_GPU_PCI_STATE_H
#define CCN_GPU_PCI_STATE_H

#include <stdint.h>

#include "base/host.h"

struct pci_state {
    char power[12];           /* "D0", "D3hot", …; "" = not known */
    int64_t speed, max_speed; /* 1e6 transfers per second and lane; -1 = not known, as below */
    int64_t width, max_width; /* lanes */
    int64_t correctable, nonfatal,
        fatal; /* errors that the kernel has counted since it found the device */
};

void pci_state_read(const struct host *host, const char *bdf, struct pci_state *ret);

#endif
