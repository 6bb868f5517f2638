/* Results as the log the 2023 guide prints (REF-A 5.10, SDK variant), line for line. */
#ifndef CCN_ATTESTATION_HUMANLOG_H
#define CCN_ATTESTATION_HUMANLOG_H

#include "attestation/device.h"

/* humanlog_make() - fills verdict->log */
void humanlog_make(const struct session *s, const struct device *devices, size_t n,
                   struct att_verdict *v);

#endif
