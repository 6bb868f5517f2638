#include "node-agent/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"

#define JOURNAL_NAME "journal.json"
#define JOURNAL_VERSION 2
#define JOURNAL_MAX_BYTES (64 * 1024) /* 64 devices of some 350 bytes, and room */
#define JOURNAL_BAD_KEPT 4

static void auto_put(struct json_object **object)
{
    json_object_put(*object);
}

const struct journal_device *journal_find(const struct journal *journal, const char *bdf)
{
    for (size_t i = 0; i < journal->n; i++) {
        if (strcmp(journal->devices[i].bdf, bdf) == 0)
            return &journal->devices[i];
    }
    return NULL;
}

/* The entry that is missed least: the oldest that says nothing, else the oldest. */
static size_t find_spare(const struct journal *journal)
{
    for (size_t i = 0; i < journal->n; i++) {
        const struct journal_device *d = &journal->devices[i];
        if (d->verified_mode == CC_MODE_UNKNOWN && d->changing_to == CC_MODE_UNKNOWN)
            return i;
    }
    return 0;
}

struct journal_device *journal_put(struct journal *journal, const char *bdf)
{
    for (size_t i = 0; i < journal->n; i++) {
        if (strcmp(journal->devices[i].bdf, bdf) == 0)
            return &journal->devices[i];
    }
    if (journal->n == NV_MAX_DEVICES) {
        size_t spare = find_spare(journal);
        journal->n--;
        memmove(&journal->devices[spare], &journal->devices[spare + 1],
                (journal->n - spare) * sizeof journal->devices[0]);
    }
    struct journal_device *d = &journal->devices[journal->n++];
    *d = (struct journal_device){0};
    (void)snprintf(d->bdf, sizeof d->bdf, "%s", bdf);
    return d;
}

enum cc_mode journal_verified_mode(const struct journal *journal, const struct nv_device *dev,
                                   const char *boot_id)
{
    const struct journal_device *d = journal_find(journal, dev->bdf);
    if (!d || !*boot_id || strcmp(journal->boot_id, boot_id) != 0 ||
        d->device_id != dev->device_id || !d->settled || d->changing_to != CC_MODE_UNKNOWN)
        return CC_MODE_UNKNOWN;
    return d->verified_mode;
}

bool journal_capable_modes(const struct journal *journal, const struct nv_device *dev,
                           const char *boot_id, unsigned *ret)
{
    const struct journal_device *d = journal_find(journal, dev->bdf);
    if (!d || !*boot_id || strcmp(journal->boot_id, boot_id) != 0 ||
        d->device_id != dev->device_id || !d->capable_known)
        return false;
    *ret = d->capable_modes;
    return true;
}

bool journal_may_have_given(const struct journal *journal, const char *boot_id)
{
    return journal->registered && (!*boot_id || strcmp(journal->boot_id, boot_id) == 0);
}

void journal_begin_boot(struct journal *journal, const char *boot_id)
{
    if (strcmp(journal->boot_id, boot_id) == 0)
        return;
    (void)snprintf(journal->boot_id, sizeof journal->boot_id, "%s", boot_id);
    journal->registered = false;
    *journal->kubelet = '\0';
    *journal->removed = '\0'; /* firmware and kernel have scanned the bus */
    for (size_t i = 0; i < journal->n; i++) {
        struct journal_device *d = &journal->devices[i];
        d->verified_mode = CC_MODE_UNKNOWN;
        d->changing_to = CC_MODE_UNKNOWN;
        d->settled = d->capable_known = d->unordered = false;
        d->capable_modes = 0;
    }
}

static struct json_object *format_modes(unsigned modes)
{
    struct json_object *list = json_object_new_array();
    for (enum cc_mode mode = CC_MODE_OFF; mode <= CC_MODE_PPCIE; mode++) {
        if (modes & CC_MODE_BIT(mode))
            (void)json_object_array_add(list, json_object_new_string(cc_mode_name(mode)));
    }
    return list;
}

static struct json_object *format_device(const struct journal_device *d)
{
    struct json_object *o = json_object_new_object();
    char id[8];
    (void)snprintf(id, sizeof id, "%04x", d->device_id);
    json_object_object_add(o, "bdf", json_object_new_string(d->bdf));
    json_object_object_add(o, "device_id", json_object_new_string(id));
    json_object_object_add(o, "original_driver", json_object_new_string(d->original_driver));
    json_object_object_add(o, "verified_mode",
                           json_object_new_string(cc_mode_name(d->verified_mode)));
    json_object_object_add(o, "settled", json_object_new_boolean(d->settled));
    json_object_object_add(o, "changing_to", json_object_new_string(cc_mode_name(d->changing_to)));
    if (d->unordered) /* seldom there, as "removed" */
        json_object_object_add(o, "unordered", json_object_new_boolean(true));
    if (d->capable_known)
        json_object_object_add(o, "capable_modes", format_modes(d->capable_modes));
    return o;
}

/* What the checksum is taken of: everything that is believed, in one fixed form. */
static struct json_object *format_body(const struct journal *journal)
{
    struct json_object *body = json_object_new_object();
    struct json_object *devices = json_object_new_array();
    for (size_t i = 0; i < journal->n; i++)
        (void)json_object_array_add(devices, format_device(&journal->devices[i]));
    json_object_object_add(body, "boot_id", json_object_new_string(journal->boot_id));
    json_object_object_add(body, "devices", devices);
    if (*journal->removed) /* seldom there: releases before it came do not know it */
        json_object_object_add(body, "removed", json_object_new_string(journal->removed));
    if (*journal->kubelet)
        json_object_object_add(body, "kubelet", json_object_new_string(journal->kubelet));
    if (journal->registered)
        json_object_object_add(body, "registered", json_object_new_boolean(true));
    return body;
}

static void checksum(struct json_object *body, char ret[static 65])
{
    const char *text = json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(text, strlen(text), digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
        abort(); /* SHA-256 of a buffer fails only without memory */
    hex_encode(digest, n, ret);
}

char *journal_format(const struct journal *journal)
{
    AUTO(auto_put) struct json_object *root = json_object_new_object();
    struct json_object *body = format_body(journal);
    char sum[65];
    checksum(body, sum);
    json_object_object_add(root, "version", json_object_new_int(JOURNAL_VERSION));
    json_object_object_add(root, "checksum", json_object_new_string(sum));
    json_object_object_add(root, "journal", body);
    return xasprintf("%s\n", json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
                                                                      JSON_C_TO_STRING_SPACED));
}

/* A string member of at most @room - 1 printable characters. Return: it, or NULL. */
static const char *member_text(struct json_object *object, const char *key, size_t room)
{
    struct json_object *value;
    if (!json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    const char *text = json_object_get_string(value);
    size_t n = (size_t)json_object_get_string_len(value);
    if (n >= room)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < ' ' || text[i] > '~')
            return NULL;
    }
    return text;
}

static int member_mode(struct json_object *object, const char *key, enum cc_mode *ret,
                       struct err *err)
{
    const char *text = member_text(object, key, 16);
    enum cc_mode mode = text ? cc_mode_parse(text) : CC_MODE_UNKNOWN;
    if (mode == CC_MODE_UNKNOWN && (!text || strcmp(text, cc_mode_name(CC_MODE_UNKNOWN)) != 0))
        return err_set(err, EINVAL, "%s is not a mode", key);
    *ret = mode;
    return 0;
}

/* Absent: false. */
static int member_flag(struct json_object *object, const char *key, bool *ret, struct err *err)
{
    struct json_object *value;
    if (!json_object_object_get_ex(object, key, &value))
        return 0;
    if (!json_object_is_type(value, json_type_boolean))
        return err_set(err, EINVAL, "%s is neither true nor false", key);
    *ret = json_object_get_boolean(value);
    return 0;
}

/* Absent: not known. */
static int parse_capable(struct json_object *object, struct journal_device *d, struct err *err)
{
    struct json_object *list;
    if (!json_object_object_get_ex(object, "capable_modes", &list))
        return 0;
    bool good = json_object_is_type(list, json_type_array);
    for (size_t i = 0; good && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        enum cc_mode mode = json_object_is_type(one, json_type_string)
                                ? cc_mode_parse(json_object_get_string(one))
                                : CC_MODE_UNKNOWN;
        good = mode != CC_MODE_UNKNOWN;
        d->capable_modes |= CC_MODE_BIT(mode);
    }
    d->capable_known = true;
    return good ? 0 : err_set(err, EINVAL, "capable_modes is not a list of modes");
}

static int parse_device(struct json_object *object, struct journal *journal, struct err *err)
{
    struct json_object *settled;
    const char *bdf = member_text(object, "bdf", BDF_SIZE);
    const char *id = member_text(object, "device_id", 5);
    const char *driver =
        member_text(object, "original_driver", sizeof journal->devices[0].original_driver);
    if (!bdf || !*bdf || !id || strlen(id) != 4 || !driver ||
        !json_object_object_get_ex(object, "settled", &settled) ||
        !json_object_is_type(settled, json_type_boolean))
        return err_set(err, EINVAL, "a device lacks bdf, device_id, original_driver or settled");
    if (journal->n == NV_MAX_DEVICES || journal_find(journal, bdf))
        return err_set(err, EINVAL, "too many devices, or %s twice", bdf);
    uint8_t id_bytes[2];
    int r = hex_decode(id, 4, id_bytes, sizeof id_bytes, err);
    if (r < 0)
        return r;
    struct journal_device *d = journal_put(journal, bdf);
    d->device_id = (uint16_t)(id_bytes[0] << 8 | id_bytes[1]);
    (void)snprintf(d->original_driver, sizeof d->original_driver, "%s", driver);
    d->settled = json_object_get_boolean(settled);
    r = member_mode(object, "verified_mode", &d->verified_mode, err);
    if (r == 0)
        r = member_mode(object, "changing_to", &d->changing_to, err);
    if (r == 0)
        r = member_flag(object, "unordered", &d->unordered, err);
    return r < 0 ? r : parse_capable(object, d, err);
}

static int parse_body(struct json_object *body, struct journal *journal, struct err *err)
{
    struct json_object *devices;
    const char *boot_id = member_text(body, "boot_id", sizeof journal->boot_id);
    if (!boot_id || !json_object_object_get_ex(body, "devices", &devices) ||
        !json_object_is_type(devices, json_type_array))
        return err_set(err, EINVAL, "boot_id or devices is missing");
    (void)snprintf(journal->boot_id, sizeof journal->boot_id, "%s", boot_id);
    const char *removed = member_text(body, "removed", sizeof journal->removed);
    (void)snprintf(journal->removed, sizeof journal->removed, "%s", removed ? removed : "");
    const char *kubelet = member_text(body, "kubelet", sizeof journal->kubelet);
    (void)snprintf(journal->kubelet, sizeof journal->kubelet, "%s", kubelet ? kubelet : "");
    int r = member_flag(body, "registered", &journal->registered, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        struct json_object *device = json_object_array_get_idx(devices, i);
        if (!json_object_is_type(device, json_type_object))
            return err_set(err, EINVAL, "device %zu is not an object", i);
        r = parse_device(device, journal, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_root(struct json_object *root, struct journal *journal, struct err *err)
{
    struct json_object *version, *body;
    if (!json_object_is_type(root, json_type_object) ||
        !json_object_object_get_ex(root, "version", &version) ||
        !json_object_is_type(version, json_type_int))
        return err_set(err, EINVAL, "not a journal: no version");
    if (json_object_get_int64(version) < 1 || json_object_get_int64(version) > JOURNAL_VERSION)
        return err_set(err, EINVAL, "version %lld; this program knows version %d",
                       (long long)json_object_get_int64(version), JOURNAL_VERSION);
    const char *sum = member_text(root, "checksum", 65);
    if (!sum || !json_object_object_get_ex(root, "journal", &body) ||
        !json_object_is_type(body, json_type_object))
        return err_set(err, EINVAL, "checksum or journal is missing");
    int r = parse_body(body, journal, err);
    if (r < 0)
        return r;
    AUTO(auto_put) struct json_object *believed = format_body(journal);
    char expected[65];
    checksum(believed, expected);
    if (strcmp(sum, expected) != 0)
        return err_set(err, EINVAL, "the checksum is wrong: the file was changed or damaged");
    return 0;
}

int journal_parse(const char *text, size_t len, struct journal *ret, struct err *err)
{
    if (len > JOURNAL_MAX_BYTES)
        return err_set(err, EFBIG, "%zu bytes are no journal", len);
    struct json_tokener *tokener = json_tokener_new_ex(8);
    AUTO(auto_put) struct json_object *root = json_tokener_parse_ex(tokener, text, (int)len);
    enum json_tokener_error e = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    if (!root)
        return err_set(err, EINVAL, "truncated or not JSON (%s, byte %zu)",
                       json_tokener_error_desc(e), end);
    while (end < len && strchr(" \n\r\t", text[end]) && text[end])
        end++;
    if (end != len)
        return err_set(err, EINVAL, "something follows the journal at byte %zu", end);
    struct journal journal = {0};
    int r = parse_root(root, &journal, err);
    if (r == 0)
        *ret = journal;
    return r;
}

/* Renames the unusable file. The last place is used again and again, so a crash loop fills no disk. */
static void set_aside(const struct host *host, const char *dir, struct err *err)
{
    struct err ignored = ERR_INIT;
    AUTO_CLOSE int fd = host_openat(host, dir, O_RDONLY | O_DIRECTORY, &ignored);
    char name[64];
    int n = 1;
    for (; n <= JOURNAL_BAD_KEPT; n++) {
        (void)snprintf(name, sizeof name, JOURNAL_NAME ".bad-%d", n);
        struct stat st;
        if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || n == JOURNAL_BAD_KEPT)
            break;
    }
    struct err cause = *err;
    if (fd < 0 || renameat(fd, JOURNAL_NAME, fd, name) < 0)
        (void)err_set(err, cause.code,
                      "%s/" JOURNAL_NAME " is not used, and could not be set aside: %s", dir,
                      cause.msg);
    else
        (void)err_set(err, cause.code, "%s/" JOURNAL_NAME " is not used and was kept as %s: %s",
                      dir, name, cause.msg);
}

int journal_load(const struct host *host, const char *dir, struct journal *ret, struct err *err)
{
    *ret = (struct journal){0};
    AUTO_FREE char *path = xasprintf("%s/" JOURNAL_NAME, dir);
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = fs_read(host, path, JOURNAL_MAX_BYTES, &text, &len, err);
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = journal_parse(text, len, ret, err);
    if (r == 0)
        return 1;
    set_aside(host, dir, err);
    return r;
}

int journal_save(const struct host *host, const char *dir, const struct journal *journal,
                 struct err *err)
{
    AUTO_FREE char *text = journal_format(journal);
    int r = fs_mkdirs(host, dir, err);
    if (r == 0)
        r = fs_replace(host, dir, JOURNAL_NAME, text, strlen(text), 0600, true, err);
    return r < 0 ? err_wrap(err, r, "write the journal in %s", dir) : 0;
}
