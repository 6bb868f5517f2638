/* What a relying party gets from a guest it does not know: first byte even, the rest is the token; odd, the rest is an SNP
 * report and the host's certificate table inside a token that is right otherwise, REPORT_DATA included. */
#include <json-c/json.h>
#include <openssl/evp.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/binding.h"
#include "attestation/jose.h"
#include "base/auto.h"
#include "base/bytes.h"
#include "tests/fuzz/attestation/target.h"

#define REPORT 1184
static const char evidence[] = "{\"nvidia\":{\"device_evidence_list\":[]}}";
#define CHAIN "{\"x-nvidia-cert-status\":\"valid\",\"x-nvidia-cert-ocsp-status\":\"good\"}"
static struct att_key *key;
static char nonce_hex[65], gpu_hex[65];
static char *submodule; /* the token of one GPU, for the life of the process */

static char *sign(const char *claims)
{
    struct err err = ERR_INIT;
    char *token = NULL;
    struct json_object *o = json_tokener_parse(claims);
    if (!o || jose_sign(key, o, &token, &err) < 0)
        abort();
    json_object_put(o);
    return token;
}

static char *common(void)
{
    return xasprintf("\"iss\":\"CCNODE-ATTEST\",\"exp\":%lld,\"eat_nonce\":\"%s\"",
                     (long long)TARGET_CLOCK + 3600, gpu_hex);
}

static void prepare(void)
{
    struct err err = ERR_INIT;
    uint8_t gpu_nonce[ATT_NONCE_SIZE];
    if (key)
        return;
    if (att_key_generate(&key, &err) < 0)
        abort();
    hex_encode(target_nonce, ATT_NONCE_SIZE, nonce_hex);
    binding_gpu_nonce(nonce_hex, att_key_jwk(key), gpu_nonce);
    hex_encode(gpu_nonce, sizeof gpu_nonce, gpu_hex);
    AUTO_FREE char *times = common();
    AUTO_FREE char *claims = xasprintf(
        "{%s,\"measres\":\"success\",\"x-nvidia-gpu-attestation-report-cert-chain\":" CHAIN
        ",\"x-nvidia-gpu-driver-rim-cert-chain\":" CHAIN "}",
        times);
    submodule = sign(claims);
}

static char *bound_token(const uint8_t *data, size_t size)
{
    uint8_t report[REPORT] = {0}, digest[32];
    char hex[65];
    size_t n = size < REPORT ? size : REPORT;
    memcpy(report, data, n);
    binding_report_data(evidence, nonce_hex, att_key_jwk(key), report + 0x50);
    if (EVP_Digest(submodule, strlen(submodule), digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    hex_encode(digest, sizeof digest, hex);
    AUTO_FREE char *times = common();
    AUTO_FREE char *r64 = b64_encode(report, n);
    AUTO_FREE char *t64 = b64_encode(data + n, size - n);
    AUTO_FREE char *claims = xasprintf(
        "{%s,\"x-nvidia-overall-att-result\":true,\"submods\":{\"GPU-0\":[\"DIGEST\",[\"SHA-256\","
        "\"%s\"]]},\"x-ccnode-tee\":{\"type\":\"snp\",\"nonce\":\"%s\",\"report\":\"%s\","
        "\"certificates\":\"%s\",\"tee-pubkey\":%s,\"additional-evidence\":"
        "\"{\\\"nvidia\\\":{\\\"device_evidence_list\\\":[]}}\"}}",
        times, hex, nonce_hex, r64, t64, att_key_jwk(key));
    AUTO_FREE char *overall = sign(claims);
    return xasprintf("[[\"JWT\",\"%s\"],{\"GPU-0\":\"%s\"}]", overall, submodule);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct att_verdict *v = NULL;
    struct att_token_options options = {
        .nonce = target_nonce, .at = TARGET_CLOCK, .issuer = ATT_ISSUER_DEFAULT};
    if (size == 0)
        return 0;
    bool deep = data[0] & 1;
    prepare();
    AUTO_FREE char *token = deep ? bound_token(data + 1, size - 1) : NULL;
    struct att_text text =
        deep ? target_text((const uint8_t *)token, strlen(token)) : target_text(data + 1, size - 1);
    if (att_check_tee(&options, &text, NULL, &v, &err) < 0)
        abort();
    /* a token that fits must get as far as the report */
    if (deep && att_verdict_class(v) == ATT_REJECTED && att_verdict_code(v) != ATT_ERR_SNP)
        abort();
    target_judge(v, false); /* AMD signed nothing here */
    return 0;
}
