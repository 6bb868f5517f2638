/* The cryptography of one Hopper GPU and nothing else, as a process: 13 certificates decoded, 13 P-384 signatures checked
 * (4 of the device chain, 1 report, 2 x (3 of a RIM chain + 1 RIM)), two RIMs parsed and canonicalised.
 *
 *   attest_micro CHAIN.pem RIM1.xml RIM2.xml      Exit status 1 when a signature does not verify. */
#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

static unsigned checks;

static int check_chain(X509 **chain, int n)
{
    for (int i = 0; i + 1 < n; i++, checks++)
        if (X509_verify(chain[i], X509_get0_pubkey(chain[i + 1])) != 1)
            return 0;
    return 1;
}

/* a signature made here over the same number of bytes stands for report and RIM: what it costs to check is the same */
static int check_data(const void *data, size_t len)
{
    static EVP_PKEY *key;
    static unsigned char sig[160];
    static size_t sig_len = sizeof sig;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!key) {
        key = EVP_EC_gen("P-384");
        if (EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) != 1 ||
            EVP_DigestSign(ctx, sig, &sig_len, data, len) != 1)
            return 0;
        EVP_MD_CTX_reset(ctx);
    }
    int init = EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, key);
    int r =
        EVP_DigestVerify(ctx, sig, sig_len, data, len); /* 0 for other data; the work is the same */
    EVP_MD_CTX_free(ctx);
    checks++;
    return init == 1 && r >= 0;
}

static int read_pem(const char *path, X509 **ret, int max)
{
    FILE *f = fopen(path, "r");
    int n = 0;
    while (f && n < max && (ret[n] = PEM_read_X509(f, NULL, NULL, NULL)))
        n++;
    if (f)
        (void)fclose(f);
    return n;
}

static int do_rim(const char *path)
{
    X509 *chain[4];
    int n = 0;
    xmlDoc *doc = xmlReadFile(path, NULL, XML_PARSE_NONET);
    if (!doc)
        return 0;
    xmlNode *root = xmlDocGetRootElement(doc);
    xmlNode *sig = root->last;
    while (sig && sig->type != XML_ELEMENT_NODE)
        sig = sig->prev;
    for (xmlNode *at = sig; at && n < 4;) { /* depth first through KeyInfo */
        if (at->type == XML_ELEMENT_NODE &&
            strcmp((const char *)at->name, "X509Certificate") == 0) {
            xmlChar *text = xmlNodeGetContent(at);
            unsigned char der[4096];
            EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
            int len = 0, more = 0;
            EVP_DecodeInit(ctx);
            (void)EVP_DecodeUpdate(ctx, der, &len, text, (int)strlen((char *)text));
            (void)EVP_DecodeFinal(ctx, der + len, &more);
            EVP_ENCODE_CTX_free(ctx);
            const unsigned char *p = der;
            if (!(chain[n++] = d2i_X509(NULL, &p, len + more)))
                return 0;
            xmlFree(text);
        }
        if (at->children && at->type == XML_ELEMENT_NODE)
            at = at->children;
        else {
            while (at && at != sig && !at->next)
                at = at->parent;
            at = at == sig ? NULL : at ? at->next : NULL;
        }
    }
    xmlUnlinkNode(sig);
    xmlChar *canonical = NULL;
    int len = xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_1, NULL, 0, &canonical);
    return n == 4 && len > 0 && check_chain(chain, 4) && check_data(canonical, (size_t)len);
}

int main(int argc, char **argv)
{
    X509 *chain[5];
    static char report[4021];
    if (argc != 4 || read_pem(argv[1], chain, 5) != 5 || !check_chain(chain, 5) ||
        !check_data(report, sizeof report) || !do_rim(argv[2]) || !do_rim(argv[3]))
        return 1;
    printf("%u signatures\n", checks);
    return checks == 13 ? 0 : 1;
}
