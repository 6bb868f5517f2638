/* A hostile pci.ids through our wrapper of libpci: never an end of the process, never a name that is no resource. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/resource_name.h"
#include "node-agent/gpu/names.h"
#include "node-agent/gpu/pci_ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct nv_device dev = {.vendor_id = 0x10de, .device_id = 0x2fff};
    AUTO_CLOSE int fd = memfd_create("pci.ids", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        return 0;
    struct pci_ids *ids = pci_ids_open(fd, &err);
    if (!ids && (!err.code || !*err.msg))
        abort(); /* the fuzzer's way to report */
    if (ids && pci_ids_find(ids, &dev, &err) == 0 &&
        (!resource_name_ok(dev.resource) || !*dev.name))
        abort();
    pci_ids_close(ids);
    return 0;
}
