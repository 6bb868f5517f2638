#include "attestation/rim.h"

#include <ctype.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "attestation/rimsig.h"
#include "base/auto.h"
#include "base/bytes.h"

#define DS "http://www.w3.org/2000/09/xmldsig#"
static const char swid[] = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
static const char hash_ns[] = "http://www.w3.org/2001/04/xmlenc#sha384";
static const char tcg[] = "https://trustedcomputinggroup.org/resource/"
                          "tcg-reference-integrity-manifest-rim-information-model/";

#define MAX_DEPTH 16
#define MAX_ATTRIBUTES 128

void rim_done(struct rim *rim)
{
    free(rim->hashes);
    *rim = (struct rim){0};
}

/* Bounds ---------------------------------------------------------------------------------------------------------- */

/* one tag from '<' on; returns the character after '>' or NULL */
static const char *skip_tag(const char *p, const char *end, unsigned *attributes)
{
    char quote = 0;
    for (; p < end; p++) {
        if (quote) {
            if (*p == quote)
                quote = 0;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
            (*attributes)++;
        } else if (*p == '>') {
            return p + 1;
        }
    }
    return NULL;
}

bool rim_bounds(const char *xml, size_t len, const char **why)
{
    const char *p = xml, *end = xml + len;
    unsigned depth = 0;
    *why = "ends inside a tag";
    if (memchr(xml, 0, len)) {
        *why = "it has NUL bytes";
        return false;
    }
    if (len > 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) /* byte order mark */
        p += 3;
    if (end - p > 5 && memcmp(p, "<?xml", 5) == 0 && !(p = memmem(p, (size_t)(end - p), "?>", 2)))
        return false;
    while ((p = memchr(p, '<', (size_t)(end - p)))) {
        unsigned attributes = 0;
        const char *tag = p;
        if (end - p >= 4 && memcmp(p, "<!--", 4) == 0) {
            if (!(p = memmem(p + 4, (size_t)(end - p - 4), "-->", 3)))
                return false;
            continue;
        }
        if (end - p >= 2 && (p[1] == '!' || p[1] == '?')) {
            *why = "it has a document type, CDATA or a processing instruction";
            return false;
        }
        if (!(p = skip_tag(p, end, &attributes)))
            return false;
        if (attributes > MAX_ATTRIBUTES) {
            *why = "an element has too many attributes";
            return false;
        }
        if (tag[1] == '/')
            depth -= depth > 0;
        else if (p[-2] != '/' && ++depth > MAX_DEPTH) {
            *why = "it is nested too deeply";
            return false;
        }
        if (p == end)
            break;
    }
    return true;
}

/* Values ---------------------------------------------------------------------------------------------------------- */

static void auto_xml_text(char **text)
{
    if (*text)
        xmlFree(*text);
}
#define AUTO_XML AUTO(auto_xml_text)

static bool take_text(xmlNode *node, const char *ns, const char *name, char ret[RIM_TEXT],
                      struct att_verdict *v)
{
    AUTO_XML char *text = xml_attribute(node, ns, name);
    if (!text || !*text || strlen(text) >= RIM_TEXT)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.meta", "Meta has no usable attribute %s",
                          name);
    (void)snprintf(ret, RIM_TEXT, "%s", text);
    return true;
}

/* decimal digits only, at most @max */
static bool small_number(const char *text, unsigned max, unsigned *ret)
{
    unsigned n = 0;
    if (!text || !*text || strlen(text) > 3)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        n = n * 10 + (unsigned)(*text - '0');
    }
    *ret = n;
    return n <= max;
}

static bool take_hashes(xmlNode *node, struct golden *g, struct rim *rim)
{
    unsigned seen = 0;
    for (const xmlAttr *a = node->properties; a; a = a->next)
        seen += a->ns && strcmp((const char *)a->ns->href, hash_ns) == 0;
    if (seen != g->n)
        return false;
    rim->hashes = xrealloc(rim->hashes, rim->n_hashes + g->n, sizeof *rim->hashes);
    g->first = (unsigned)rim->n_hashes;
    for (unsigned i = 0; i < g->n; i++) {
        char name[16];
        struct err err = ERR_INIT;
        (void)snprintf(name, sizeof name, "Hash%u", i);
        AUTO_XML char *text = xml_attribute(node, hash_ns, name);
        if (!text || strlen(text) != 2 * REPORT_DIGEST ||
            hex_decode(text, 2 * REPORT_DIGEST, rim->hashes[rim->n_hashes], REPORT_DIGEST, &err) <
                0)
            return false;
        rim->n_hashes++;
    }
    return true;
}

static bool take_resource(xmlNode *node, struct rim *rim, struct att_verdict *v)
{
    AUTO_XML char *type = xml_attribute(node, NULL, "type");
    AUTO_XML char *index = xml_attribute(node, NULL, "index");
    AUTO_XML char *active = xml_attribute(node, NULL, "active");
    AUTO_XML char *alternatives = xml_attribute(node, NULL, "alternatives");
    AUTO_XML char *name = xml_attribute(node, NULL, "name");
    AUTO_XML char *size = xml_attribute(node, NULL, "size");
    unsigned number, n;
    if (!small_number(index, 254, &number))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.index",
                          "index \"%.32s\", a number from 0 to 254 is expected",
                          index ? index : "");
    if (!xml_is(node, swid, "Resource") || xml_first(node) || !xml_only_space(node) || !type ||
        strcmp(type, "Measurement") != 0 || !name || !*name)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.resource",
                          "index %u is no empty Resource of type Measurement with a name", number);
    for (size_t i = 0; i < rim->n_golden; i++)
        if (rim->golden[i].index == number)
            return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.index", "index %u is there twice",
                              number);
    if (!active || (strcmp(active, "True") != 0 && strcmp(active, "False") != 0))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.active",
                          "index %u: active=\"%.32s\", True or False is expected", number,
                          active ? active : "");
    if (!size || strcmp(size, "48") != 0)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.size",
                          "index %u: size=\"%.32s\", 48 is expected", number, size ? size : "");
    if (!small_number(alternatives, RIM_ALTERNATIVES, &n) || n == 0)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.alternatives",
                          "index %u: alternatives=\"%.32s\", 1 to 64 are possible", number,
                          alternatives ? alternatives : "");
    struct golden g = {(uint8_t)number, strcmp(active, "True") == 0, 0, n};
    if (!take_hashes(node, &g, rim))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.hash",
                          "index %u: %u hashes of 96 hexadecimal digits named Hash0 to Hash%u are "
                          "expected",
                          number, n, n - 1);
    rim->golden[rim->n_golden++] = g;
    rim->n_active += g.active;
    return true;
}

static bool is_pair(const struct rim *rim)
{
    bool gpu = strcmp(rim->product, "GH100") == 0 ||
               (strncmp(rim->product, "GB", 2) == 0 && isdigit((unsigned char)rim->product[2]));
    return gpu ? strcmp(rim->edition, "GPU") == 0
               : strcmp(rim->product, "LS10") == 0 && strcmp(rim->edition, "SWITCH") == 0;
}

static bool take_values(xmlNode *meta, xmlNode *payload, struct rim *rim, struct att_verdict *v)
{
    if (!take_text(meta, NULL, "colloquialVersion", rim->version, v) ||
        !take_text(meta, NULL, "product", rim->product, v) ||
        !take_text(meta, NULL, "edition", rim->edition, v) ||
        !take_text(meta, tcg, "FirmwareManufacturerId", rim->oemid, v))
        return false;
    if (!is_pair(rim))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.product",
                          "product %s, edition %s: a GPU or a switch is expected", rim->product,
                          rim->edition);
    for (xmlNode *node = xml_first(payload); node; node = xml_next(node))
        if (!take_resource(node, rim, v))
            return false;
    if (rim->n_active == 0)
        return trail_fail(v, ATT_ERR_RIM_MEASUREMENT, "rim.active",
                          "no active measurement: nothing could be compared");
    return trail_pass(v, "rim.content", "%s %s %s, %zu measurements, %zu active", rim->product,
                      rim->edition, rim->version, rim->n_golden, rim->n_active);
}

/* Document -------------------------------------------------------------------------------------------------------- */

struct shape {
    xmlNode *meta, *payload, *signature;
};

static bool read_shape(xmlDoc *doc, struct shape *ret, struct att_verdict *v)
{
    xmlNode *root = xmlDocGetRootElement(doc);
    if (doc->intSubset || doc->extSubset)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.dtd", "the document has a document type");
    if (!xml_is(root, swid, "SoftwareIdentity") || !xml_only_space(root))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.root",
                          "the root is no SoftwareIdentity of SWID 2015, or holds text");
    xmlNode *node = xml_first(root);
    unsigned entities = 0;
    for (; node && xml_is(node, swid, "Entity"); node = xml_next(node), entities++)
        if (xml_first(node) || !xml_only_space(node))
            return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.structure", "Entity is not empty");
    ret->meta = node;
    ret->payload = node ? xml_next(node) : NULL;
    ret->signature = ret->payload ? xml_next(ret->payload) : NULL;
    if (entities == 0 || !xml_is(ret->meta, swid, "Meta") || !xml_is(ret->payload, swid, "Payload"))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.structure",
                          "the root must hold Entity, Meta, Payload, Signature in this order");
    if (!xml_is(ret->signature, DS, "Signature"))
        return trail_fail(v, ATT_ERR_RIM_SIGNATURE, "rim.structure",
                          "no Signature after Payload: unsigned, or signed elsewhere");
    if (xml_next(ret->signature) || xml_first(ret->meta) || !xml_only_space(ret->meta) ||
        !xml_only_space(ret->payload))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.structure",
                          "elements or text where none may be");
    return trail_pass(v, "rim.structure", "Entity, Meta, Payload, Signature and nothing else");
}

static void quiet(void *arg, xmlErrorPtr error)
{
    (void)arg;
    (void)error;
}

static xmlDoc *parse(const uint8_t *xml, size_t len)
{
    xmlParserCtxt *ctx = xmlNewParserCtxt();
    if (!ctx)
        abort();
    ctx->sax->serror = quiet;
    /* the encoding is given, so no declaration in the document is followed */
    xmlDoc *doc = xmlCtxtReadMemory(ctx, (const char *)xml, (int)len, NULL, "UTF-8",
                                    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlFreeParserCtxt(ctx);
    return doc;
}

static void auto_doc(xmlDoc **doc)
{
    xmlFreeDoc(*doc);
}

bool rim_load(struct certs *pool, const struct cert *root, int64_t at, const uint8_t *xml,
              size_t len, struct rim *ret, struct att_verdict *v)
{
    const char *why = "";
    ret->chain_verdict.status = "invalid";
    if (len == 0 || len > ATT_RIM_MAX)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.size", "%zu bytes, 1 to %u are allowed", len,
                          ATT_RIM_MAX);
    if (!rim_bounds((const char *)xml, len, &why))
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.bounds", "refused before parsing: %s", why);
    AUTO(auto_doc) xmlDoc *doc = parse(xml, len);
    if (!doc)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.xml", "not well-formed XML in UTF-8");
    struct shape shape = {0};
    struct rimsig sig = {0};
    if (!read_shape(doc, &shape, v) || !rimsig_read(pool, shape.signature, &sig, ret, v))
        return false;
    if (!certs_verify(pool, ret->chain, ret->n_chain, RIM_CHAIN, root, at, &ret->chain_verdict, v))
        return false;
    ret->signature_ok = rimsig_verify(pool, doc, &sig, ret->chain[0], v);
    if (!ret->signature_ok)
        return false;
    ret->schema_ok = take_values(shape.meta, shape.payload, ret, v);
    return ret->schema_ok;
}

/* Identity -------------------------------------------------------------------------------------------------------- */

static void upper_without_dots(char *text)
{
    char *out = text;
    for (const char *p = text; *p; p++)
        if (*p != '.')
            *out++ = (char)toupper((unsigned char)*p);
    *out = 0;
}

bool rim_id(const struct report *report, bool blackwell, enum rim_role role, char *ret, size_t room)
{
    char bios[REPORT_TEXT];
    int n;
    (void)snprintf(bios, sizeof bios, "%s", report->bios);
    upper_without_dots(bios);
    if (report->kind == ATT_SWITCH) {
        n = snprintf(ret, room, "NV_SWITCH_BIOS_5612_0002_890_%s", bios);
    } else if (role == RIM_DRIVER) {
        n = blackwell ? snprintf(ret, room, "NV_GPU_CC_DRIVER_%s_%s",
                                 report->chip[0] ? report->chip : "GB100", report->driver)
                      : snprintf(ret, room, "NV_GPU_DRIVER_GH100_%s", report->driver);
    } else {
        n = snprintf(ret, room, "NV_GPU_VBIOS_%s_%s_%s_%s", report->project, report->project_sku,
                     report->chip_sku, bios);
        for (char *p = ret; n > 0 && (size_t)n < room && *p; p++)
            *p = (char)toupper((unsigned char)*p);
    }
    return n > 0 && (size_t)n < room;
}

bool rim_fits(const struct rim *rim, const struct report *report, bool blackwell,
              enum rim_role role, struct att_verdict *v)
{
    const char *product = report->kind == ATT_SWITCH ? "LS10" : blackwell ? "GB" : "GH100";
    bool product_ok =
        blackwell ? strncmp(rim->product, product, 2) == 0 : strcmp(rim->product, product) == 0;
    const char *edition = report->kind == ATT_SWITCH ? "SWITCH" : "GPU";
    if (!product_ok || strcmp(rim->edition, edition) != 0)
        return trail_fail(v, ATT_ERR_RIM_SCHEMA, "rim.product",
                          "RIM of %s %s, the device is %s%s %s", rim->product, rim->edition,
                          product, blackwell ? "…" : "", edition);
    bool driver = role == RIM_DRIVER && report->kind == ATT_GPU;
    const char *version = driver ? report->driver : report->bios;
    bool same =
        driver ? strcmp(rim->version, version) == 0 : strcasecmp(rim->version, version) == 0;
    if (!same)
        return trail_fail(v, driver ? ATT_ERR_DRIVER_RIM_VERSION : ATT_ERR_VBIOS_RIM_VERSION,
                          "rim.version", "RIM of version %s, the device runs %s", rim->version,
                          version);
    return trail_pass(v, "rim.version", "product, edition and version %s are the device's",
                      version);
}
