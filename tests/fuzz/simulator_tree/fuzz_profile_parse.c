#include <string.h>

#include "simulator/tree/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct profile profile;
    struct err err = ERR_INIT;
    if (profile_parse((const char *)data, size, &profile, &err) == 0)
        for (size_t i = 0; i < profile.n_devices; i++)
            if (!profile_bdf_ok(profile.devices[i].bdf))
                __builtin_trap();
    return 0;
}
