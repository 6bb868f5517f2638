/* The XML signature of a RIM, in the one shape NVIDIA uses (REF-A 4.4); every other shape is refused.
 *
 * Digest and ECDSA are computed here over libxml2's canonical form, so that no key, transform or algorithm named by the
 * document can take part: REF-A 4.5 step 4 calls this the simplest robust way. */
#ifndef CCN_ATTESTATION_RIMSIG_H
#define CCN_ATTESTATION_RIMSIG_H

#include <libxml/tree.h>

#include "attestation/rim.h"

struct rimsig {
    xmlNode *node;        /* ds:Signature */
    xmlNode *signed_info; /* borrowed from the tree */
    uint8_t digest[48], value[96];
};

/* rimsig_read() - structure and the certificates in KeyInfo */
bool rimsig_read(struct certs *pool, xmlNode *signature, struct rimsig *ret, struct rim *rim,
                 struct att_verdict *v);
/* rimsig_verify() - with @signer's key and nothing else; the tree is left as it was */
bool rimsig_verify(struct certs *pool, xmlDoc *doc, const struct rimsig *sig,
                   const struct cert *signer, struct att_verdict *v);

/* helpers shared with rim.c: element children in order; text between them must be white space */
xmlNode *xml_first(xmlNode *parent);
xmlNode *xml_next(xmlNode *node);
bool xml_is(const xmlNode *node, const char *ns, const char *name);
bool xml_only_space(
    const xmlNode *parent); /* no text, CDATA, entity or instruction between elements */
/* attribute @name in namespace @ns (NULL: none); NULL when absent; the caller's (xmlFree) */
char *xml_attribute(xmlNode *node, const char *ns, const char *name);

#endif
