/* Kernel uevents: strings with zeros between, of any length, not ended. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/hotplug.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xmalloc(size); /* exactly: one byte too far is seen */
    if (size > 0)
        memcpy(text, data, size);
    if (hotplug_concerns_pci(text, size) && !memmem(text, size, "SUBSYSTEM=pci", 13))
        abort();
    return 0;
}
