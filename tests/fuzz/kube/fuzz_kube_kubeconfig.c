#include <stdlib.h>
#include <string.h>

#include "node-agent/kube/creds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct creds creds = {0};
    struct err err = ERR_INIT;
    if (kubeconfig_parse((const char *)data, size, "/dir", &creds, &err) == 0) {
        if (!creds.server || strchr(creds.server, '\n') ||
            (creds.token && strpbrk(creds.token, " \r\n")))
            abort();
        creds_done(&creds);
    } else if (!err.msg[0]) {
        abort();
    }
    return 0;
}
