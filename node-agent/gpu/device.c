#include "node-agent/gpu/device.h"

#include <string.h>

#include "base/auto.h"

static const char *const mode_names[] = {
    [CC_MODE_UNKNOWN] = "unknown",   [CC_MODE_OFF] = "off",     [CC_MODE_ON] = "on",
    [CC_MODE_DEVTOOLS] = "devtools", [CC_MODE_PPCIE] = "ppcie", [CC_MODE_INVALID] = "invalid",
};

const char *nv_kind_name(enum nv_kind kind)
{
    return kind == NV_KIND_NVSWITCH ? "nvswitch" : "gpu";
}

const char *cc_mode_name(enum cc_mode mode)
{
    return (size_t)mode < ARRAY_LEN(mode_names) ? mode_names[mode] : "unknown";
}

enum cc_mode cc_mode_parse(const char *text)
{
    for (enum cc_mode mode = CC_MODE_OFF; mode <= CC_MODE_PPCIE; mode++) {
        if (strcmp(text, mode_names[mode]) == 0)
            return mode;
    }
    return CC_MODE_UNKNOWN;
}
