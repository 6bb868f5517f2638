/* Where RIMs, OCSP answers and random bytes come from: a directory, services, the kernel. */
#ifndef CCN_ATTESTATION_PROG_SERVICES_H
#define CCN_ATTESTATION_PROG_SERVICES_H

#include "attestation/prog/http.h"
#include "attestation/prog/opts.h"

#define RIM_URL_DEFAULT "https://rim.attestation.nvidia.com"   /* REF-A 4.2 */
#define OCSP_URL_DEFAULT "https://ocsp.ndis.nvidia.com"        /* REF-A 3.6 */
#define NRAS_URL_DEFAULT "https://nras.attestation.nvidia.com" /* REF-A 6.1 */

struct services {
    const struct opts *opts;
    int rim_dir; /* -1: the service */
    struct http *http;
};

int services_open(struct services *ret, const struct opts *opts, struct err *err);
void services_close(struct services *services);
/* services_source() - the callbacks of the library; valid while @services is */
void services_source(struct services *services, struct att_source *ret);

/* services_random() - from the kernel */
int services_random(void *arg, uint8_t *buf, size_t len, struct err *err);

#endif
