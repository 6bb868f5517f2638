/* Texts of the host: modules.alias, selectors, names. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/resource_name.h"
#include "node-agent/gpu/modules.h"
#include "node-agent/gpu/names.h"
#include "node-agent/gpu/selectors.h"
#include "node-agent/gpu/sysfs.h"
#include "node-agent/gpu/users_node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(void)
{
    abort(); /* the fuzzer's way to report */
}

static void try_selector(const char *text)
{
    static const struct nv_device node[3] = {
        {.bdf = "0000:18:00.0", .kind = NV_KIND_GPU, .vendor_id = 0x10de, .device_id = 0x2331},
        {.bdf = "0000:2a:00.0", .kind = NV_KIND_GPU, .vendor_id = 0x10de, .device_id = 0x2330},
        {.bdf = "0000:c1:00.0",
         .kind = NV_KIND_NVSWITCH,
         .vendor_id = 0x10de,
         .device_id = 0x22a3}};
    bool named[3] = {false, false, false};
    struct err err = ERR_INIT;
    int r = selectors_match(text, node, 3, named, &err);
    int count = named[0] + named[1] + named[2];
    if ((r < 0 && count != 0) || (r >= 0 && r != count) || r == 0)
        fail();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    char word[64];
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    if (names_format(text, word, sizeof word, &err) == 0 && !resource_name_ok(word))
        fail();
    if (modules_match_alias((const char *)data, size,
                            "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00", word,
                            sizeof word) &&
        strchr(word, '/'))
        fail();
    sysfs_copy_name(text, word, sizeof word);
    if (strchr(word, '/') || strcmp(word, "..") == 0)
        fail();
    (void)sysfs_number(text, 4096);
    (void)node_table_is_candidate(text);
    (void)node_table_short_name(text);
    try_selector(text);
    return 0;
}
