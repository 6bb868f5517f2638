/* Shared by the files of this folder only. */
#ifndef CCN_CRI_INTERNAL_H
#define CCN_CRI_INTERNAL_H

#include "base/proto.h"
#include "node-agent/cri/cri.h"

#define CRI_MAX_TEXT 4096 /* of one name, path or message */

/* A list of owned strings that grows. */
struct strings {
    size_t n;
    char **items;
};
void strings_add(struct strings *strings, const char *text); /* not twice */
void strings_sort(struct strings *strings);
void strings_free(struct strings *strings);

char *cri_copy(const ProtobufCBinaryData *text); /* of a field that proto_text() has let pass */
void cri_free_text(const char *text);

/* What a runtime's configuration tells; runtime->name and ->version are known. Replaces what is there. */
void cri_set_handlers(struct cri_runtime *runtime, struct strings *handlers);
void cri_set_cdi_dirs(struct cri_runtime *runtime, struct strings *dirs);

/* cri_read_config() - the text under "config" of a verbose Status (JSON); nothing is set that it does not say */
void cri_read_config(struct cri_runtime *runtime, const ProtobufCBinaryData *json);
/* cri_version_major_minor() - "v2.2.9", "1.30.4-dev"; false when it is nothing of the kind */
bool cri_version_major_minor(const char *version, unsigned *major, unsigned *minor);

/* crio_read_conf() - CRI-O does not tell its CDI directories: its configuration files do */
void crio_read_conf(struct cri_runtime *runtime, const struct host *host);
/* crio_scan() - cdi_spec_dirs of one file's text, pure. Return: it is there */
bool crio_scan(const char *text, struct strings *dirs);

#endif
