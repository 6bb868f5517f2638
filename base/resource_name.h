/* The rule for the name part of our resources, "nvidia.com/NAME": what kubelet takes (IsQualifiedName of apimachinery) and
 * CDI 0.5.0 takes as the class of a kind too, since both must have the same name (REF-K M-KATA-1). The one place. Pure. */
#ifndef CCN_BASE_RESOURCE_NAME_H
#define CCN_BASE_RESOURCE_NAME_H

#include <stdbool.h>

#define RESOURCE_NAME_MAX 63

/* resource_name_ok() - 1..63 of A-Z a-z 0-9 _ -, a letter first, a letter or digit last. A dot needs CDI 0.6.0. */
bool resource_name_ok(const char *text);

#endif
