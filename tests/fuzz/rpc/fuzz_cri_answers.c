/* What a container runtime answers, and CRI-O's files. First byte: which; second: name of the runtime. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cri/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text)
{
    if (!text || !text_utf8(text, strlen(text)))
        abort();
}

static void status(const uint8_t *data, size_t size, bool containerd)
{
    static const uint8_t names[2][20] = {"\x12\x05"
                                         "cri-o\x1a\x04"
                                         "1.30",
                                         "\x12\x0a"
                                         "containerd\x1a\x03"
                                         "2.2"};
    struct err err = ERR_INIT;
    struct cri_runtime runtime = {0};
    size_t n = strlen((const char *)names[containerd]);
    if (cri_decode_version(names[containerd], n, &runtime, &err) < 0)
        abort();
    if (cri_decode_status(data, size, &runtime, &err) == 0) {
        check(runtime.not_ready_why);
        for (size_t i = 0; i < runtime.n_handlers; i++)
            check(runtime.handlers[i]);
        for (size_t i = 0; i < runtime.n_cdi_dirs; i++)
            check(runtime.cdi_dirs[i]);
        (void)cri_has_handler(&runtime, "kata");
        (void)cri_reads_cdi_dir(&runtime, "/run/cdi");
    }
    cri_runtime_free(&runtime);
}

static void others(uint8_t which, const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct cri_runtime runtime = {0};
    struct cri_sandboxes list = {0};
    struct strings dirs = {0};
    if (which == 1 && cri_decode_version(data, size, &runtime, &err) == 0)
        check(runtime.version);
    cri_runtime_free(&runtime);
    if (which == 2 && cri_decode_sandboxes(data, size, &list, &err) == 0)
        (void)cri_sandbox_of(&list, (const char *)data, size, NULL);
    cri_sandboxes_free(&list);
    if (which == 3) {
        AUTO_FREE char *text = xstrndup((const char *)data, size);
        (void)crio_scan(text, &dirs);
        for (size_t i = 0; i < dirs.n; i++)
            check(dirs.items[i]);
    }
    strings_free(&dirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] % 4 == 0)
        status(data + 2, size - 2, data[1] & 1);
    else
        others(data[0] % 4, data + 2, size - 2);
    return 0;
}
