/* The configuration file: whatever is accepted can be compared, explained and freed; an error names the file. */
#include <stdlib.h>
#include <string.h>

#include "node-agent/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config = {0}, defaults;
    struct err err = ERR_INIT;
    config_default(&defaults);
    if (config_parse("c.yaml", (const char *)data, size, &config, &err) == 0)
        (void)config_needs_restart(&defaults, &config);
    else if (strncmp(err.msg, "c.yaml", 6) != 0)
        abort();
    config_done(&config);
    config_done(&defaults);
    return 0;
}
