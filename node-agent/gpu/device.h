/* Shared vocabulary of the GPU room: what one NVIDIA device is, what mode it is in.
 *
 * Plain data. struct nv_device holds what sysfs tells without touching the device; struct nv_report what a
 * worker (ccnode-device) read from its registers.
 */
#ifndef CCN_GPU_DEVICE_H
#define CCN_GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BDF_SIZE 16 /* "0000:18:00.0" and the zero; domains of up to 8 digits do not occur on PCs */
#define NV_MAX_DEVICES 64   /* more on one node is refused by name, not cut */
#define NV_MAX_COMPANIONS 8 /* other endpoint functions of the IOMMU group that are bound along */
#define NV_MAX_HOLDERS 16   /* reported per device: it is in use all the same */

enum nv_kind { NV_KIND_GPU, NV_KIND_NVSWITCH };

/* A mode of one device. UNKNOWN: not read. INVALID: the register says "devtools without CC" (state 2), seen
 * after an interrupted switch with old tools (NVIDIA/gpu-admin-tools issue 7). */
enum cc_mode {
    CC_MODE_UNKNOWN,
    CC_MODE_OFF,
    CC_MODE_ON,
    CC_MODE_DEVTOOLS,
    CC_MODE_PPCIE,
    CC_MODE_INVALID,
};
#define CC_MODE_BIT(mode) (1u << (mode))

const char *nv_kind_name(enum nv_kind kind); /* "gpu", "nvswitch" */
const char *
cc_mode_name(enum cc_mode mode); /* "unknown", "off", "on", "devtools", "ppcie", "invalid" */
/* cc_mode_parse() - one of off, on, devtools, ppcie. Return: the mode, or CC_MODE_UNKNOWN. */
enum cc_mode cc_mode_parse(const char *text);

struct nv_companion {
    char bdf[BDF_SIZE];
    uint32_t class_code; /* 24 bits, as sysfs "class" */
    char driver[32];     /* "" = none */
};

struct nv_device {
    char bdf[BDF_SIZE];
    uint64_t ino; /* of its directory in sysfs, by inventory_read() alone; see functions.h */
    enum nv_kind kind;
    uint16_t vendor_id, device_id;
    uint32_t class_code;
    char chip
        [16]; /* "gh100", "gb100", "gb202", "ls10", …; "" = no CC; "unlisted" = ask its registers */
    char name[64];       /* for people: "H100 PCIe" */
    char resource[64];   /* resource name without "nvidia.com/": "GH100_H100_PCIE" */
    char driver[32];     /* "" = none */
    bool driver_is_vfio; /* vfio-pci or a variant driver of it */
    char driver_override
        [32];          /* read only while it has no driver: sysfs takes the device's lock for it,
                               * which a reset of a dead device keeps for minutes (REF-L 6.2) */
    int numa_node;     /* -1 = none */
    int iommu_group;   /* -1 = none: the IOMMU is off */
    bool group_node;   /* /dev/vfio/<group> exists */
    char cdev[24];     /* "vfio3" when /dev/vfio/devices/vfio3 exists, else "" */
    bool group_viable; /* every other endpoint of the group is on VFIO, pci-stub or unbound */
    char group_blocker[64]; /* "0000:18:00.1 (snd_hda_intel)" when not viable */
    size_t n_companions;
    struct nv_companion companions[NV_MAX_COMPANIONS];
};

/* What this release says of such a device to people. */
#define NV_UNLISTED_TEXT                                                                           \
    "its chip is not known to this release of ccnode, so nobody can tell its mode or whether it "  \
    "has Confidential Computing; update ccnode, or exclude the device (devices.exclude)"

/* What the registers said. capable_modes is a set of CC_MODE_BIT(); 0 = no CC on this device, unless unlisted. */
struct nv_report {
    enum cc_mode active;
    enum cc_mode
        pending; /* what the knobs would give at the next reset; UNKNOWN if they cannot be read */
    unsigned capable_modes;
    bool booted;
    bool unlisted;   /* a chip that came after this release: mode and capabilities are not known */
    bool by_vfio;    /* read through VFIO, as under kernel lockdown: each time resets the device */
    char fault[128]; /* "" = healthy; else what is wrong, e.g. "firmware is in recovery mode" */
};

/* Who uses a device. Only one of them is enough to leave it alone. */
struct nv_holder {
    int pid;
    char comm[32];
    char what[64]; /* "/dev/vfio/7", "resource0", "/dev/nvidia0", "vfio-device mapping" */
};

#endif
