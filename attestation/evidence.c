#include "attestation/evidence.h"

#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/jsonin.h"
#include "base/auto.h"
#include "base/bytes.h"

#define FIELD_MAX (64u << 10) /* of a report or chain before its own bound is applied */

void evidence_done(struct evidence_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        att_bytes_done(&list->items[i].report);
        att_bytes_done(&list->items[i].chain);
    }
    free(list->items);
    *list = (struct evidence_list){0};
}

static bool check_nonce(struct json_object *item, const uint8_t *nonce, bool optional,
                        struct att_verdict *v)
{
    const char *text = jsonin_string(item, "nonce");
    if (!text && optional && !jsonin_member(item, "nonce"))
        return true;
    if (!text)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.nonce", "member nonce is no string");
    uint8_t bytes[ATT_NONCE_SIZE];
    struct err err = ERR_INIT;
    size_t len = strlen(text);
    if (len != 2 * sizeof bytes || hex_decode(text, len, bytes, sizeof bytes, &err) < 0)
        return trail_fail(v, ATT_ERR_NONCE, "evidence.nonce",
                          "member nonce has %zu characters, 64 hexadecimal digits are expected",
                          len);
    if (nonce && memcmp(bytes, nonce, sizeof bytes) != 0)
        return trail_fail(v, ATT_ERR_NONCE, "evidence.nonce",
                          "the evidence was made for nonce %.16s…, not for the expected one", text);
    return true;
}

static bool take_base64(struct json_object *item, const char *name, struct att_bytes *ret,
                        struct att_verdict *v)
{
    struct err err = ERR_INIT;
    struct json_object *member = jsonin_member(item, name);
    if (!json_object_is_type(member, json_type_string))
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.member", "member %s is no string", name);
    if (b64_decode(json_object_get_string(member), (size_t)json_object_get_string_len(member),
                   FIELD_MAX, ret, &err) < 0)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.base64", "member %s: %s", name, err.msg);
    return true;
}

static bool take_text(struct json_object *item, const char *name, char *ret, size_t room,
                      struct att_verdict *v)
{
    struct json_object *member = jsonin_member(item, name);
    if (!member)
        return true;
    const char *text = jsonin_string(item, name);
    if (!text || strlen(text) >= room)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.member",
                          "member %s is no string of at most %zu characters", name, room - 1);
    (void)snprintf(ret, room, "%s", text);
    return true;
}

static bool parse_item(struct json_object *item, const uint8_t *nonce, bool coco,
                       struct evidence *ret, struct att_verdict *v)
{
    if (!json_object_is_type(item, json_type_object))
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.member", "a device is no object");
    const char *arch = jsonin_string(item, "arch");
    ret->arch = arch ? arch_parse(arch) : ARCH_UNKNOWN;
    if (ret->arch == ARCH_UNKNOWN)
        return trail_fail(v, ATT_ERR_ARCH, "evidence.arch",
                          "architecture \"%s\"; HOPPER, BLACKWELL and LS10 are known",
                          arch ? arch : "(no string)");
    return check_nonce(item, nonce, coco, v) &&
           take_text(item, "uuid", ret->uuid, sizeof ret->uuid, v) &&
           take_text(item, "driver_version", ret->driver_version, sizeof ret->driver_version, v) &&
           take_text(item, "vbios_version", ret->vbios_version, sizeof ret->vbios_version, v) &&
           take_base64(item, "evidence", &ret->report, v) &&
           take_base64(item, "certificate", &ret->chain, v);
}

bool evidence_parse(const struct att_text *text, const uint8_t *nonce, struct evidence_list *list,
                    struct att_verdict *v)
{
    struct err err = ERR_INIT;
    AUTO_JSON struct json_object *root = NULL;
    if (jsonin_parse(text->text, text->len, ATT_EVIDENCE_MAX, &root, &err) < 0)
        return trail_fail(v, ATT_ERR_JSON, "evidence.json", "%s: %s", text->name, err.msg);
    struct json_object *coco = jsonin_member(root, "device_evidence_list");
    struct json_object *items = coco ? coco : jsonin_member(root, "evidences");
    if (!items)
        items = root;
    if (!json_object_is_type(items, json_type_array))
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.list", "%s: a list of devices is expected",
                          text->name);
    size_t n = json_object_array_length(items);
    if (n == 0)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.list", "%s: no device at all", text->name);
    if (list->n + n > ATT_DEVICES_MAX)
        return trail_fail(v, ATT_ERR_EVIDENCE, "evidence.list", "%s: more than %d devices",
                          text->name, ATT_DEVICES_MAX);
    list->items = xrealloc(list->items, list->n + n, sizeof *list->items);
    for (size_t i = 0; i < n; i++) {
        struct evidence *item = &list->items[list->n++];
        *item = (struct evidence){.arch = ARCH_UNKNOWN};
        trail_subject(v, "%s[%zu]", text->name, i);
        bool ok = parse_item(json_object_array_get_idx(items, i), nonce, coco, item, v);
        trail_subject(v, "%s", "");
        if (!ok)
            return false;
    }
    return true;
}
