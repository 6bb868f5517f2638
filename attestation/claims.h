/* Results of devices as claims: v3 and v2 (REF-A 5.1 to 5.4), the 28 names of 2023 (5.5), overall claims (5.6). */
#ifndef CCN_ATTESTATION_CLAIMS_H
#define CCN_ATTESTATION_CLAIMS_H

#include "attestation/device.h"

/* claims_make() - fills verdict->claims, names and n_devices; @devices may be judged or not */
void claims_make(const struct session *s, const struct device *devices, size_t n,
                 struct att_verdict *v);
/* the flat claims of one device, in the order of 2023; index into names */
#define CLAIMS_2023_COUNT 28
void claims_2023(const struct session *s, const struct device *d, bool ret[CLAIMS_2023_COUNT]);
extern const char *const claims_2023_names[CLAIMS_2023_COUNT];

#endif
