#include "node-agent/advice.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *reason, *title, *relief;
} kinds[ADVICE_KINDS] = {
    [ADVICE_PERMISSION] = {"PermissionMissing", "the API server forbids what the agent must do",
                           "the API server forbids nothing any more"},
    [ADVICE_TEE] = {"ConfidentialGuestsImpossible", "the host can start no confidential guest",
                    "the host can start confidential guests now"},
    [ADVICE_VFIO] = {"IommufdMissing", "the kernel's VFIO is too old for this host's TEE",
                     "VFIO has what this host's TEE needs now"},
    [ADVICE_SWITCHES] = {"NVSwitchMissing", "GPUs are offered without the NVSwitches they need",
                         "the NVSwitches are offered now"},
    [ADVICE_RIVAL] = {"DevicePluginConflict", "another device plugin has a resource of ours",
                      "kubelet has our device plugin again"},
    [ADVICE_GET] = {"PodResourcesGetMissing", "kubelet does not tell Kata a sandbox's devices",
                    "kubelet tells Kata a sandbox's devices now"},
    [ADVICE_CDI_FILES] = {"BrokenCDIFile", "a CDI file of somebody else fails every pod with a GPU",
                          "the CDI files of others are fine now"},
    [ADVICE_RUNTIME] = {"RuntimeNotPrepared", "the container runtime is not prepared",
                        "the container runtime is prepared now"},
};

const char *advice_reason(enum advice_kind kind)
{
    return kinds[kind].reason;
}

const char *advice_title(enum advice_kind kind)
{
    return kinds[kind].title;
}

const char *advice_relief(enum advice_kind kind)
{
    return kinds[kind].relief;
}

void advice_add(struct advice *advice, const char *fmt, ...)
{
    size_t n = strlen(advice->text), room = sizeof advice->text;
    va_list ap;
    if (n > 0)
        n += (size_t)snprintf(advice->text + n, room - n, "; ");
    va_start(ap, fmt);
    if (n < room)
        (void)vsnprintf(advice->text + n, room - n, fmt, ap);
    va_end(ap);
}
