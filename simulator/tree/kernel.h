/* The simulated kernel: PCI devices, drivers, IOMMU groups, and what Linux does with them.
 *
 * Behaviour follows what was seen on real kernels (6.1, 6.12, 7.3); where this file knows better than it shows, the
 * source says "Linux <file>". All functions are called with the tree lock held (node.h) and may release it while they
 * wait, exactly where Linux would sleep: an unbind or remove of a device in use, a reset, the device lock.
 *
 * What the hardware does (registers, config space, resets) is the model's (simulator/model); this is only software.
 */
#ifndef CCN_SIMULATOR_TREE_KERNEL_H
#define CCN_SIMULATOR_TREE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "simulator/model/model.h"
#include "simulator/tree/node.h"
#include "simulator/tree/profile.h"

#define KERNEL_MAX_DEVICES 160 /* endpoints and the bridges above them */
#define KERNEL_MAX_DRIVERS 96  /* a profile names 64 at most */
#define KERNEL_MAX_GROUPS 160
#define DRIVER_MAX_IDS 32

/* power_state as sysfs shows it; unknown until something enabled or reset the device */
enum power { POWER_UNKNOWN, POWER_D0, POWER_D3HOT, POWER_D3COLD };

struct driver {
    char name[32];
    bool vfio; /* vfio-pci and its variants: group nodes, D3, waits for users at unbind */
    size_t n_ids;
    uint32_t ids[DRIVER_MAX_IDS]; /* new_id: vendor << 16 | device */
    struct node *dir;
};

struct group {
    int number;
    struct node *dir, *devices;
    struct node *node; /* /dev/vfio/N while a member is on VFIO */
    bool open;         /* somebody has /dev/vfio/N open */
    pid_t holder;
};

struct pdev {
    const struct profile_device *spec; /* NULL: a bridge */
    char bdf[16];
    int hw; /* device number in the model */
    struct pdev *up;
    int numa;
    struct group *group;
    bool plugged, present;
    /* driver core */
    struct driver *driver;
    char override[TREE_PAGE]; /* "" = none */
    bool locked;              /* the device lock */
    bool config_blocked;      /* a reset runs: pci_cfg_access_lock() */
    /* power management */
    bool pm_auto, d3cold_allowed, enabled;
    enum power power;
    char reset_method[24]; /* "" = all disabled */
    /* bound state */
    int vfio_no, nvidia_no; /* -1 = none */
    int opens;              /* cdev and /dev/nvidiaN descriptors */
    struct node *dir, *bus_link, *group_link, *driver_link, *driver_dev_link, *vfio_dir, *dev_node;
};

struct kernel {
    struct model *model;
    const struct profile *profile;
    size_t n_devices, n_drivers, n_groups;
    struct pdev devices[KERNEL_MAX_DEVICES];
    struct driver drivers[KERNEL_MAX_DRIVERS];
    struct group groups[KERNEL_MAX_GROUPS];
    bool autoprobe, rescan_lock;
    bool device_nodes; /* real character devices below root instead of FUSE files */
    const char *root;  /* of the simulated host */
};
extern struct kernel kernel;

/* --- kernel.c: devices come and go ------------------------------------------------------------------------- */
struct pdev *pdev_find(const char *bdf); /* present ones only */
struct pdev *pdev_any(const char *bdf);  /* also removed and unplugged ones */
/* pdev_add() - into the tree, with its attributes; binds nothing */
void pdev_add(struct pdev *dev);
/* pdev_remove() - as the remove attribute does: children first, waits for users */
int pdev_remove(struct pdev *dev);
/* bus_rescan() - adds what is plugged in and not present */
void bus_rescan(void);
void pdev_lock(struct pdev *dev);
void pdev_unlock(struct pdev *dev);
/* pdev_users() - who has the device (not only its group) open: VFIO descriptors, cdevs, /dev/nvidiaN */
int pdev_users(const struct pdev *dev);
/* pdev_active() - a VFIO user has it running; an open cdev alone does not wake it (reference 8) */
bool pdev_active(const struct pdev *dev);
/* kernel_refresh() - somebody changed the model behind our back: faults, time */
void kernel_refresh(void);
/* kernel_sleep_ms() - release the lock for that long (simulated time) */
void kernel_sleep_ms(uint32_t ms);

/* --- driver.c ---------------------------------------------------------------------------------------------- */
struct driver *driver_find(const char *name);
struct driver *driver_add(const char *name);
/* driver_remove() - as rmmod does: unbinds all. Return: -EAGAIN while one of its devices is in use. */
int driver_remove(struct driver *drv);
/* driver_attach() - probe. Return: 0, -EBUSY bound already, -ENODEV no match, -EINVAL no IOMMU. */
int driver_attach(struct driver *drv, struct pdev *dev);
/* driver_attach_any() - drivers_probe and hot plug: the first driver that matches, or none */
void driver_attach_any(struct pdev *dev);
/* driver_release() - unbind; waits for users; the caller holds the device lock */
void driver_release(struct pdev *dev);

/* --- power.c ----------------------------------------------------------------------------------------------- */
void power_wake(struct pdev *dev);
void power_idle(struct pdev *dev);        /* back to sleep where runtime PM allows it */
void power_refresh(struct pdev *dev);     /* a fault came or went */
const char *power_name(struct pdev *dev); /* as power_state shows it */
int pdev_reset(struct pdev *dev);         /* what writing 1 to reset does */
extern const struct node_ops power_control_ops, runtime_status_ops, power_state_ops, reset_ops,
    reset_method_ops;

/* --- attributes.c, devnodes.c ------------------------------------------------------------------------------ */
void attributes_add(struct pdev *dev);
void attributes_refresh(struct pdev *dev); /* a file that a fault hides or shows again */
void devnodes_setup(void);
void devnodes_bind(struct pdev *dev);   /* after a VFIO or nvidia bind */
void devnodes_unbind(struct pdev *dev); /* before the driver link's device is free again */

#endif
