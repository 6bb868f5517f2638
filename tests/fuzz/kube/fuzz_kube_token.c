/* Token files and server addresses: what is accepted must be fit for a header and a URL. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/creds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *token = NULL;
    AUTO_FREE char *server = NULL;
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    if (token_parse((const char *)data, size, &token, &err) == 0)
        for (const char *p = token; *p; p++)
            if (*p <= ' ' || *p >= 0x7f)
                abort();
    if (server_check(text, &server, &err) == 0 && strpbrk(server, " \r\n@?#"))
        abort();
    return 0;
}
