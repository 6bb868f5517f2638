#include "attestation/rimsig.h"

#include <libxml/c14n.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "attestation/b64.h"
#include "base/auto.h"

#define DS "http://www.w3.org/2000/09/xmldsig#"
static const char c14n11[] = "http://www.w3.org/2006/12/xml-c14n11";
static const char enveloped[] = DS "enveloped-signature";
static const char ecdsa_sha384[] = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
static const char sha384[] = "http://www.w3.org/2001/04/xmldsig-more#sha384";

static xmlNode *element_from(xmlNode *node)
{
    while (node && node->type != XML_ELEMENT_NODE)
        node = node->next;
    return node;
}

xmlNode *xml_first(xmlNode *parent)
{
    return element_from(parent->children);
}

xmlNode *xml_next(xmlNode *node)
{
    return element_from(node->next);
}

bool xml_is(const xmlNode *node, const char *ns, const char *name)
{
    return node && node->type == XML_ELEMENT_NODE && node->ns &&
           strcmp((const char *)node->ns->href, ns) == 0 &&
           strcmp((const char *)node->name, name) == 0;
}

bool xml_only_space(const xmlNode *parent)
{
    for (const xmlNode *n = parent->children; n; n = n->next) {
        if (n->type == XML_ELEMENT_NODE || n->type == XML_COMMENT_NODE)
            continue;
        if (n->type != XML_TEXT_NODE)
            return false;
        if (n->content && n->content[strspn((const char *)n->content, " \t\r\n")])
            return false;
    }
    return true;
}

char *xml_attribute(xmlNode *node, const char *ns, const char *name)
{
    return (char *)(ns ? xmlGetNsProp(node, (const xmlChar *)name, (const xmlChar *)ns)
                       : xmlGetNoNsProp(node, (const xmlChar *)name));
}

static void auto_xml_free(char **text)
{
    if (*text)
        xmlFree(*text);
}
#define AUTO_XML AUTO(auto_xml_free)

/* exactly one attribute, this one, with this value */
static bool only_attribute(xmlNode *node, const char *name, const char *value)
{
    AUTO_XML char *seen = xml_attribute(node, NULL, name);
    return seen && strcmp(seen, value) == 0 && !node->properties->next;
}

/* a ds element with nothing but Algorithm="…" */
static bool is_method(xmlNode *node, const char *name, const char *algorithm)
{
    return xml_is(node, DS, name) && only_attribute(node, "Algorithm", algorithm) &&
           !xml_first(node) && xml_only_space(node);
}

/* base64 of a ds element without attributes whose only child is a text; white space is dropped */
static bool element_bytes(xmlNode *node, const char *name, size_t max, struct att_bytes *ret)
{
    if (!xml_is(node, DS, name) || node->properties || !node->children || node->children->next ||
        node->children->type != XML_TEXT_NODE)
        return false;
    const char *text = (const char *)node->children->content;
    AUTO_FREE char *digits = xmalloc(strlen(text) + 1);
    size_t n = 0;
    for (; *text; text++)
        if (!strchr(" \t\r\n", *text))
            digits[n++] = *text;
    struct err err = ERR_INIT;
    return b64_decode(digits, n, max, ret, &err) == 0;
}

static bool fixed_bytes(xmlNode *node, const char *name, uint8_t *ret, size_t size)
{
    struct att_bytes bytes = {0};
    bool ok = element_bytes(node, name, size, &bytes) && bytes.len == size;
    if (ok)
        memcpy(ret, bytes.data, size);
    att_bytes_done(&bytes);
    return ok;
}

static bool read_transforms(xmlNode *transforms)
{
    if (!xml_is(transforms, DS, "Transforms") || transforms->properties ||
        !xml_only_space(transforms))
        return false;
    xmlNode *first = xml_first(transforms), *second = first ? xml_next(first) : NULL;
    return second && !xml_next(second) && is_method(first, "Transform", enveloped) &&
           is_method(second, "Transform", c14n11);
}

static bool read_reference(xmlNode *ref, struct rimsig *ret)
{
    if (!xml_is(ref, DS, "Reference") || !only_attribute(ref, "URI", "") || !xml_only_space(ref))
        return false;
    xmlNode *transforms = xml_first(ref);
    xmlNode *method = transforms ? xml_next(transforms) : NULL;
    xmlNode *value = method ? xml_next(method) : NULL;
    return value && !xml_next(value) && read_transforms(transforms) &&
           is_method(method, "DigestMethod", sha384) &&
           fixed_bytes(value, "DigestValue", ret->digest, sizeof ret->digest);
}

static const char *read_signed_info(xmlNode *info, struct rimsig *ret)
{
    if (!xml_is(info, DS, "SignedInfo") || info->properties || !xml_only_space(info))
        return "SignedInfo";
    xmlNode *canon = xml_first(info);
    xmlNode *method = canon ? xml_next(canon) : NULL;
    xmlNode *ref = method ? xml_next(method) : NULL;
    if (!canon || !is_method(canon, "CanonicalizationMethod", c14n11))
        return "CanonicalizationMethod (c14n 1.1 is the only one)";
    if (!method || !is_method(method, "SignatureMethod", ecdsa_sha384))
        return "SignatureMethod (ecdsa-sha384 is the only one)";
    if (!ref || xml_next(ref) || !read_reference(ref, ret))
        return "Reference (one, URI empty, enveloped-signature then c14n 1.1, sha384)";
    ret->signed_info = info;
    return NULL;
}

static const char *read_key_info(struct certs *pool, xmlNode *key_info, struct rim *rim)
{
    if (!xml_is(key_info, DS, "KeyInfo") || key_info->properties || !xml_only_space(key_info))
        return "KeyInfo";
    xmlNode *data = xml_first(key_info);
    if (!data || xml_next(data) || !xml_is(data, DS, "X509Data") || data->properties ||
        !xml_only_space(data))
        return "KeyInfo (one X509Data and nothing else)";
    for (xmlNode *node = xml_first(data); node; node = xml_next(node)) {
        struct att_bytes der = {0};
        struct err err = ERR_INIT;
        if (rim->n_chain == RIM_CHAIN)
            return "X509Data (more than 4 certificates)";
        if (!element_bytes(node, "X509Certificate", ATT_OCSP_MAX, &der))
            return "X509Certificate";
        const struct cert *cert = certs_add(pool, der.data, der.len, &err);
        att_bytes_done(&der);
        if (!cert)
            return "X509Certificate (no certificate)";
        rim->chain[rim->n_chain++] = cert;
    }
    return rim->n_chain == RIM_CHAIN ? NULL : "X509Data (4 certificates are expected)";
}

bool rimsig_read(struct certs *pool, xmlNode *signature, struct rimsig *ret, struct rim *rim,
                 struct att_verdict *v)
{
    const char *wrong = "Signature";
    ret->node = signature;
    xmlNode *info = xml_first(signature);
    xmlNode *value = info ? xml_next(info) : NULL;
    xmlNode *key_info = value ? xml_next(value) : NULL;
    if (!signature->properties && xml_only_space(signature) && key_info && !xml_next(key_info)) {
        wrong = read_signed_info(info, ret);
        if (!wrong && !fixed_bytes(value, "SignatureValue", ret->value, sizeof ret->value))
            wrong = "SignatureValue (96 bytes)";
        if (!wrong)
            wrong = read_key_info(pool, key_info, rim);
    } else {
        wrong = "Signature (SignedInfo, SignatureValue, KeyInfo and nothing else)";
    }
    if (wrong)
        return trail_fail(v, ATT_ERR_RIM_SIGNATURE, "rim.signature_form",
                          "not the one allowed form of signature: %s", wrong);
    return trail_pass(v, "rim.signature_form",
                      "one reference to the whole document, c14n 1.1, "
                      "ECDSA-SHA384, 4 certificates");
}

/* nodes of the SignedInfo subtree; namespace nodes and attributes count as their element */
static int in_signed_info(void *user, xmlNode *node, xmlNode *parent)
{
    const xmlNode *at = node && node->type != XML_NAMESPACE_DECL ? node : parent;
    for (; at; at = at->parent)
        if (at == user)
            return 1;
    return 0;
}

static bool canonical(xmlDoc *doc, xmlNode *subtree, struct att_bytes *ret)
{
    xmlOutputBuffer *buf = xmlAllocOutputBuffer(NULL);
    if (!buf)
        abort();
    bool ok = xmlC14NExecute(doc, subtree ? in_signed_info : NULL, subtree, XML_C14N_1_1, NULL, 0,
                             buf) >= 0;
    if (ok) {
        ret->len = xmlOutputBufferGetSize(buf);
        ret->data = xmalloc(ret->len + 1);
        memcpy(ret->data, xmlOutputBufferGetContent(buf), ret->len);
    }
    (void)xmlOutputBufferClose(buf);
    return ok;
}

/* the enveloped-signature transform: the document without its Signature element */
static bool document_digest(xmlDoc *doc, xmlNode *signature, uint8_t ret[48])
{
    struct att_bytes text = {0};
    xmlNode *parent = signature->parent, *after = signature->next;
    xmlUnlinkNode(signature);
    bool ok = canonical(doc, NULL, &text);
    if (after)
        xmlAddPrevSibling(after, signature);
    else
        xmlAddChild(parent, signature);
    ok = ok && EVP_Digest(text.data, text.len, ret, NULL, EVP_sha384(), NULL) == 1;
    att_bytes_done(&text);
    return ok;
}

bool rimsig_verify(struct certs *pool, xmlDoc *doc, const struct rimsig *sig,
                   const struct cert *signer, struct att_verdict *v)
{
    struct att_bytes info = {0};
    uint8_t digest[48];
    /* SignedInfo first: its canonical form takes the namespaces of its ancestors */
    if (!canonical(doc, sig->signed_info, &info))
        return trail_fail(v, ATT_ERR_RIM_SIGNATURE, "rim.signature", "no canonical form");
    bool ok = certs_ecdsa(pool, signer, info.data, info.len, sig->value);
    att_bytes_done(&info);
    if (!ok)
        return trail_fail(v, ATT_ERR_RIM_SIGNATURE, "rim.signature",
                          "SignatureValue does not verify with the signer of the verified chain");
    if (!document_digest(doc, sig->node, digest) ||
        CRYPTO_memcmp(digest, sig->digest, sizeof digest) != 0)
        return trail_fail(v, ATT_ERR_RIM_SIGNATURE, "rim.digest",
                          "the document was changed after it was signed");
    return trail_pass(v, "rim.signature", "verifies with the signer of the verified chain");
}
