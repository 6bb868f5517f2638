#include "attestation/anchors.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>

/* The PEM files of roots/, linked in as they are. */
/* A test build may name other files and pins; nothing else can. */
#ifndef CCN_ROOT_DEVICE
#define CCN_ROOT_DEVICE CCN_ROOTS "/nvidia-device-identity-ca.pem"
#define CCN_ROOT_RIM CCN_ROOTS "/nvidia-corim-signing-root-ca.pem"
/* SHA-256 of the DER, REF-A 3.2; computed from three independent repositories there */
#define CCN_PIN_DEVICE "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
#define CCN_PIN_RIM "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
#define CCN_ROOT_MILAN CCN_ROOTS "/amd-milan-ask-ark-asvk.pem"
/* likewise, REF-A 8.3 */
#define CCN_PIN_MILAN_ASK "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b"
#define CCN_PIN_MILAN_ARK "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"
#define CCN_PIN_MILAN_ASVK "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5"
#endif

#define EMBED(symbol, file)                                                                        \
    __asm__(".section .rodata\n" #symbol ":\n.incbin \"" file "\"\n.byte 0\n.previous\n");         \
    extern const char symbol[] /* NOLINT */ __attribute__((visibility("hidden")))

EMBED(pem_device, CCN_ROOT_DEVICE);
EMBED(pem_rim, CCN_ROOT_RIM);
EMBED(pem_milan, CCN_ROOT_MILAN);
EMBED(pem_genoa, CCN_ROOTS "/amd-genoa-ask-ark-asvk.pem");
EMBED(pem_turin, CCN_ROOTS "/amd-turin-ask-ark-asvk.pem");

/* SHA-256 of the DER, REF-A 8.3 */
static const struct {
    const char *product, *pem, *ask, *ark, *asvk;
} amd[] = {
    {"Milan", pem_milan, CCN_PIN_MILAN_ASK, CCN_PIN_MILAN_ARK, CCN_PIN_MILAN_ASVK},
    {"Genoa", pem_genoa, "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
     "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
     "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372"},
    {"Turin", pem_turin, "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
     "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
     "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c"},
};

static bool has_pin(const struct cert *cert, const char *pin)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof cert->sha256; i++)
        if (pin[2 * i] != digits[cert->sha256[i] >> 4] ||
            pin[2 * i + 1] != digits[cert->sha256[i] & 15])
            return false;
    return true;
}

static int replacement(struct certs *pool, const char *pem, const struct cert **ret,
                       struct err *err)
{
    int n = certs_add_pem(pool, pem, strlen(pem), ret, 1, err);
    if (n < 0)
        return err_wrap(err, n, "replaced root");
    const struct cert *root = *ret;
    if (X509_check_ca(root->x509) != 1)
        return err_set(err, EINVAL,
                       "replaced root is no certificate authority (end-entity "
                       "certificate or version 1): it can't be a trust anchor");
    if (X509_NAME_cmp(X509_get_subject_name(root->x509), X509_get_issuer_name(root->x509)) != 0 ||
        !certs_signed_by(pool, root, root))
        return err_set(err, EINVAL, "replaced root is not self-signed: it can't be a trust anchor");
    return 0;
}

int anchors_root(struct certs *pool, enum anchor which, const char *pem, const struct cert **ret,
                 struct err *err)
{
    if (pem)
        return replacement(pool, pem, ret, err);
    const char *pinned = which == ANCHOR_DEVICE ? pem_device : pem_rim;
    int n = certs_add_pem(pool, pinned, strlen(pinned), ret, 1, err);
    if (n < 0)
        return n;
    if (!has_pin(*ret, which == ANCHOR_DEVICE ? CCN_PIN_DEVICE : CCN_PIN_RIM))
        return err_set(err, EINVAL, "the compiled-in root does not have its pinned SHA-256");
    return 0;
}

int anchors_amd(struct certs *pool, unsigned product, struct amd_chain *ret, struct err *err)
{
    const struct cert *list[3];
    int n = certs_add_pem(pool, amd[product].pem, strlen(amd[product].pem), list, 3, err);
    if (n < 0)
        return n;
    if (n != 3 || !has_pin(list[0], amd[product].ask) || !has_pin(list[1], amd[product].ark) ||
        !has_pin(list[2], amd[product].asvk))
        return err_set(err, EINVAL, "the compiled-in AMD %s chain does not have its pinned SHA-256",
                       amd[product].product);
    *ret = (struct amd_chain){amd[product].product, list[1], list[0], list[2]};
    return 0;
}
