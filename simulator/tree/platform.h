/* The simulated kernel's own files: bus, modules, lockdown, IOMMU. */
#ifndef CCN_SIMULATOR_TREE_PLATFORM_H
#define CCN_SIMULATOR_TREE_PLATFORM_H

void platform_setup(void);

/* Modules, by file or module name ("vfio-pci" and "vfio_pci" are the same). What can be loaded is in
 * lib/modules/<release>/modules.dep (host.c). Called with the tree lock held.
 * Return: 0 (also when loaded already), -ENOENT no such module; unload: -EAGAIN in use, -ENOENT not loaded. */
int module_load(const char *name);
int module_unload(const char *name);

#endif
