/* NVML, opened at run time: mode, evidence and ready state of GPUs. REF-A 1.1 to 1.6, 7
 *
 * A failed report or certificate call makes the driver tear the CC session down (REF-A 0.1 fact 7): each is called once
 * a device and run, never in a loop, and only after the mode was seen to be right. One handle, one thread. */
#ifndef CCN_ATTESTATION_PROG_NVML_H
#define CCN_ATTESTATION_PROG_NVML_H

#include "attestation/ccnattest.h"

struct nvml;

struct nvml_mode {
    unsigned environment; /* 0 unavailable, 1 simulation, 2 production */
    unsigned feature;     /* 1: CC on */
    unsigned devtools;
    unsigned
        multi_gpu; /* 0 none, 1 protected PCIe, 2 NVLink encryption; known only with settings */
    bool settings; /* the driver has the Settings call: only that shows protected PCIe */
};

#define NVML_TEXT                                                                                  \
    160 /* versions and uuids: 32, 80 and 96 are NVML's own sizes, with room to grow once */

struct nvml_device {
    void *handle;
    char uuid[NVML_TEXT], vbios[NVML_TEXT];
    unsigned arch;   /* 9 Hopper, 10 Blackwell */
    int persistence; /* 1 on, 0 off, -1 unknown */
};

/**
 * nvml_open() - load and initialise
 * @file: this library, or NULL for the search of REF-A 1.1
 * @host_root: prefix of the folders of that search
 * Return: 0; -ENOENT no library; -EREMOTEIO with NVML's code in device_status and what to do about it.
 */
int nvml_open(const char *file, const char *host_root, struct nvml **ret, struct err *err);
void nvml_close(struct nvml *nvml); /* shuts NVML down; accepts NULL */

int nvml_mode(struct nvml *nvml, struct nvml_mode *ret, struct err *err);
int nvml_driver_version(struct nvml *nvml, char ret[NVML_TEXT], struct err *err);
/* nvml_devices() - all of them, at most @room. Return: how many, -errno. */
int nvml_devices(struct nvml *nvml, struct nvml_device *ret, size_t room, struct err *err);
int nvml_certificate(struct nvml *nvml, const struct nvml_device *device, struct att_bytes *ret,
                     struct err *err);
int nvml_report(struct nvml *nvml, const struct nvml_device *device,
                const uint8_t nonce[ATT_NONCE_SIZE], struct att_bytes *ret, struct err *err);
/* the one flag for all GPUs; setting FALSE after TRUE is final until the driver is reloaded (fact 5) */
int nvml_ready_get(struct nvml *nvml, bool *ret, struct err *err);
int nvml_ready_set(struct nvml *nvml, bool ready, struct err *err);

#endif
