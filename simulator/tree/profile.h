/* Profiles: which node is simulated. A YAML file; every key is optional except devices, bdf and model.
 *
 *   description: text
 *   tee: snp | tdx | none            what the processor has (module parameter of kvm_amd or kvm_intel)
 *   tee_enabled: true                its value
 *   lockdown: none | integrity | confidentiality
 *   iommu: true                      false: no groups, vfio-pci refuses to bind
 *   cdev: false                      /dev/vfio/devices/vfioN and /dev/iommu as well as group nodes
 *   idle_d3: true                    vfio-pci lets idle devices sleep (disable_idle_d3=N)
 *   release: 6.12.0-sim              kernel release, names DIR/lib/modules/<release>; default: this machine's
 *   vfio_loaded: true                false: vfio-pci is a module that nobody loaded yet
 *   driver: none                     of devices that don't name one: none, vfio-pci, nvidia, or any name
 *   delays: { flr_ms: 100, … }       see `ccnode-sim ctl delays`
 *   devices:
 *     - bdf: "0000:18:00.0"          quoted: YAML reads 18:00 as a number
 *       model: h100-sxm              see profile.c
 *       path: pci0000:17/0000:17:01.0   host bridge and bridges above; default: a root port of its own
 *       numa: 0                      -1 = none
 *       group: 7                     IOMMU group number; default: one per slot, counted
 *       driver: vfio-pci
 *       ppcie: false                 firmware without PPCIe (knob answers "unknown")
 *       mode: off                    mode at start: off, on, devtools, ppcie
 *       physfn: "0000:3b:00.0"       only for model vf
 *       plugged: false               absent until `ctl plug`
 *       vendor, device, class: 0x15b3  ids of model other
 *
 * Bytes from outside: sizes are bounded, unknown keys are errors that name key, line and column. Pure.
 */
#ifndef CCN_SIMULATOR_TREE_PROFILE_H
#define CCN_SIMULATOR_TREE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PROFILE_MAX_DEVICES 64
#define PROFILE_MAX_DELAYS 16
#define PROFILE_MAX_BYTES ((size_t)256 * 1024)

struct profile_device {
    char bdf[16];
    char model[24];
    char path[96];
    char driver[32]; /* "" = none */
    char mode[16];
    char physfn[16];
    int numa;
    int group; /* -1 = choose one */
    bool no_ppcie;
    bool unplugged;
    uint16_t vendor_id, device_id; /* model other */
    uint32_t class_code;
};

struct profile_delay {
    char name[24];
    uint32_t ms;
};

struct profile {
    char description[160];
    char tee[8]; /* "snp", "tdx", "none" */
    char lockdown[16];
    char release[65]; /* "" = uname -r */
    bool tee_enabled, iommu, cdev, idle_d3, vfio_loaded;
    size_t n_devices, n_delays;
    struct profile_device devices[PROFILE_MAX_DEVICES];
    struct profile_delay delays[PROFILE_MAX_DELAYS];
};

/* profile_parse() - text of a profile. Return: 0, -EINVAL with line and column, -E2BIG. */
int profile_parse(const char *text, size_t len, struct profile *ret, struct err *err);
/* profile_load() - a file, or the name of one in the profile directories. */
int profile_load(const char *name, struct profile *ret, struct err *err);
/* profile_bdf_ok() - "dddd:bb:dd.f", lower case hexadecimal. */
bool profile_bdf_ok(const char *text);

#endif
