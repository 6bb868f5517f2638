#include "attestation/prog/lkca.h"

#include <string.h>

#include "base/auto.h"
#include "base/fs.h"

struct lkca lkca_read(const struct opts *opts)
{
    struct lkca ret = {false, false, false};
    struct host host;
    struct err err = ERR_INIT;
    AUTO_FREE char *text = NULL;
    if (host_open(&host, opts->host_root ? opts->host_root : "/", &err) < 0)
        return ret;
    if (fs_read(&host, "/proc/crypto", 1 << 20, &text, NULL, &err) == 0) {
        ret.known = true;
        ret.ecdsa = strstr(text, ": ecdsa-nist-p384") != NULL;
        ret.ecdh = strstr(text, ": ecdh-nist-p384") != NULL;
    }
    host_close(&host);
    return ret;
}

void lkca_say(FILE *f, const struct lkca *lkca, bool trouble_only)
{
    bool fine = !lkca->known || (lkca->ecdsa && lkca->ecdh);
    if (fine && trouble_only)
        return;
    if (!lkca->known)
        (void)fprintf(f, "LKCA: unknown, /proc/crypto can't be read\n");
    else if (lkca->ecdsa && lkca->ecdh)
        (void)fprintf(f, "LKCA: ecdsa and ecdh are there\n");
    else
        (void)fprintf(f,
                      "LKCA: the kernel has no %s%s%s, which CC needs: load ecdsa_generic and "
                      "ecdh_generic before nvidia (CONFIG_CRYPTO_ECDSA, CONFIG_CRYPTO_ECDH)\n",
                      lkca->ecdsa ? "" : "ecdsa", !lkca->ecdsa && !lkca->ecdh ? " and no " : "",
                      lkca->ecdh ? "" : "ecdh");
}
