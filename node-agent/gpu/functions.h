/* The PCI functions of the host by name, and what is remembered of each as long as it exists.
 *
 * A function that goes and comes back, as the same or as another, has a new inode in /sys/bus/pci/devices: inode numbers
 * of sysfs are not used twice (Linux fs/kernfs/dir.c: number and generation are one 64-bit id since 5.5; the simulated
 * node does the same). So what cannot change in a function's life is believed as long as name and inode are the same.
 */
#ifndef CCN_GPU_FUNCTIONS_H
#define CCN_GPU_FUNCTIONS_H

#include <dirent.h>
#include <stdint.h>

#include "base/err.h"
#include "node-agent/gpu/device.h"

#define FUNCTIONS_MAX 65536 /* of one host; a segment of PCI has that many */

enum function_kind { FUNCTION_UNREAD, FUNCTION_FOREIGN, FUNCTION_OURS };

struct pci_function {
    char bdf[BDF_SIZE];
    uint64_t ino;
    enum function_kind kind;
    struct nv_device *dev; /* as last read; NULL unless it is ours */
    /* the set of functions when the members of its group were read without trouble; 0 = read them again */
    uint64_t members_of_set;
};

struct pci_functions {
    size_t n;
    struct pci_function *list; /* in the order of the directory */
    uint64_t set; /* another number whenever a function came or went; never 0 after a listing */
};

/* functions_list() - @dir is /sys/bus/pci/devices, from its start. Return: 0, -E2BIG, -errno. */
int functions_list(struct pci_functions *functions, DIR *dir, struct err *err);
void functions_done(struct pci_functions *functions);

#endif
