/* preflight's readers of Kata's TOML, kubelet's YAML, Go's durations, the kernel's command line. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cli/preflight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"cold_plug_vfio", "create_container_timeout", "a",
                                       "runtimeRequestTimeout"};
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char value[64];
        memset(value, 'x', sizeof value);
        if (!preflight_key(text, keys[i], value, sizeof value))
            continue;
        if (strnlen(value, sizeof value) == sizeof value || strchr(value, '\n') ||
            !strstr(text, keys[i]))
            abort();
        if (preflight_go_duration(value) < -1000000 || preflight_toml_number(value) < -1000000)
            abort();
    }
    int64_t ms = preflight_go_duration(text);
    if (ms >= 0 && (!*text || strpbrk(text, "-\n ")))
        abort();
    int64_t number = preflight_toml_number(text);
    if (number >= 0 && strspn(text, "0123456789_") != strlen(text))
        abort();
    if (preflight_has_word(text, "iommu=pt") && !strstr(text, "iommu=pt"))
        abort();
    return 0;
}
