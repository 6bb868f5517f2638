/* Names of models that the table of names.h does not have, from the host's pci.ids, read by libpci.
 *
 * Only libpci's list of names is used: it never scans a bus, asks neither udev's database nor the DNS and keeps no
 * cache in a home directory. Its fatal errors, which by default end the process, become an error here and the list is
 * not used at all. The file belongs to root of the host; whatever it holds, names are cut to what a resource may be.
 *
 * The library is opened when it is needed: for a model that came after our table, on a host that has a list. Without
 * the library, as in our image, such a model gets a generic name.
 *
 * One thread at a time.
 */
#ifndef CCN_GPU_PCI_IDS_H
#define CCN_GPU_PCI_IDS_H

#include <stddef.h>

#include "base/err.h"
#include "base/host.h"
#include "node-agent/gpu/device.h"

/**
 * pci_ids_name() - name and resource of each device of @devices that has none yet
 * Reads pci.ids of /usr/share/misc, /usr/local/share, /usr/share/hwdata or /usr/share below the host root, the first
 * that is there (NVIDIA/go-nvlib's order), and only if a device has no name: that takes 20 ms, so callers remember it.
 * What the file does not tell gets names_generic().
 * Return: 0, also when there is no such file; -errno: the file is there and not usable, names are generic.
 */
int pci_ids_name(const struct host *host, struct nv_device *const *devices, size_t n,
                 struct err *err);

struct pci_ids; /* a list in memory */

/**
 * pci_ids_open() - the list in the file @fd, which stays the caller's
 * Return: the list; NULL: no library, no regular file, more than 8 MiB, compressed, without NVIDIA, or libpci refuses it (err says
 * the line).
 */
struct pci_ids *pci_ids_open(int fd, struct err *err);
void pci_ids_close(struct pci_ids *ids); /* accepts NULL */

/**
 * pci_ids_find() - name and resource of @dev by its device id
 * A name that another id has too, in the list or in our table, is not used: two models never share a resource
 * (M-NAME-1).
 * Return: 0; -ENOENT, @dev is untouched.
 */
int pci_ids_find(struct pci_ids *ids, struct nv_device *dev, struct err *err);

#endif
