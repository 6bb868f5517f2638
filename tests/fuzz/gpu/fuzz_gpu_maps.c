/* Lines of /proc/PID/maps: names in them are chosen by whoever made the file. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/users_node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct mapping mapping;
    memset(&mapping, 'x', sizeof mapping);
    if (!mapping_parse(text, &mapping))
        return 0;
    if (memchr(mapping.range, '\0', sizeof mapping.range) == NULL || strpbrk(mapping.range, "/.") ||
        mapping.name < text || mapping.name > text + strlen(text))
        abort();
    if (node_table_is_candidate(mapping.name) && strlen(node_table_short_name(mapping.name)) == 0)
        abort();
    return 0;
}
