/* NSCQ, opened at run time: evidence of NVSwitches. REF-A 1.8. Facts from NVIDIA/attestation-sdk 73c032eb,
 * nv-attestation-sdk-cpp/src/switch/nscq_client.cpp. One handle, one thread. */
#ifndef CCN_ATTESTATION_PROG_NSCQ_H
#define CCN_ATTESTATION_PROG_NSCQ_H

#include "attestation/ccnattest.h"

struct nscq;

#define NSCQ_ARCH_LS10 2
#define NSCQ_TNVL_LOCK 2 /* bit of pcie_mode */

struct nscq_device {
    const void *uuid;
    char label[64];
    int8_t arch, tnvl;
};

int nscq_open(const char *file, const char *host_root, struct nscq **ret, struct err *err);
void nscq_close(struct nscq *nscq); /* accepts NULL */
/* nscq_devices() - Return: how many, -errno */
int nscq_devices(struct nscq *nscq, struct nscq_device *ret, size_t room, struct err *err);
int nscq_certificate(struct nscq *nscq, const struct nscq_device *device, struct att_bytes *ret,
                     struct err *err);
int nscq_report(struct nscq *nscq, const struct nscq_device *device,
                const uint8_t nonce[ATT_NONCE_SIZE], struct att_bytes *ret, struct err *err);

#endif
