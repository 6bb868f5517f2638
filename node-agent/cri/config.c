/* What a runtime's own configuration says, as it tells it in a verbose Status. */
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cri/internal.h"

#define MAX_JSON (1024 * 1024) /* a real one has some ten kilobytes */
#define MAX_DEPTH 32

bool cri_version_major_minor(const char *version, unsigned *major, unsigned *minor)
{
    if (*version == 'v')
        version++;
    size_t digits = strspn(version, "0123456789");
    size_t more = version[digits] == '.' ? strspn(version + digits + 1, "0123456789") : 0;
    if (digits == 0 || digits > 4 || more == 0 || more > 4)
        return false;
    *major = (unsigned)strtoul(version, NULL, 10);
    *minor = (unsigned)strtoul(version + digits + 1, NULL, 10);
    return true;
}

static struct json_object *parse(const ProtobufCBinaryData *json)
{
    if (json->len == 0 || json->len > MAX_JSON)
        return NULL;
    struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
    if (!tokener)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *root =
        json_tokener_parse_ex(tokener, (const char *)json->data, (int)json->len);
    bool good = json_tokener_get_error(tokener) == json_tokener_success;
    json_tokener_free(tokener);
    if (good && json_object_is_type(root, json_type_object))
        return root;
    json_object_put(root);
    return NULL;
}

static bool is_plain(const char *text, size_t n)
{
    return n > 0 && n <= CRI_MAX_TEXT && text_utf8(text, n);
}

static void read_handlers(struct cri_runtime *runtime, struct json_object *root)
{
    struct json_object *containerd, *runtimes;
    if (!json_object_object_get_ex(root, "containerd", &containerd) ||
        !json_object_object_get_ex(containerd, "runtimes", &runtimes) ||
        !json_object_is_type(runtimes, json_type_object))
        return;
    struct strings handlers = {0};
    json_object_object_foreach(runtimes, name, value)
    {
        (void)value;
        if (handlers.n < CRI_MAX_HANDLERS && is_plain(name, strlen(name)))
            strings_add(&handlers, name);
    }
    cri_set_handlers(runtime, &handlers);
}

static void read_dirs(struct cri_runtime *runtime, struct json_object *root)
{
    struct json_object *list;
    struct strings dirs = {0};
    if (!json_object_object_get_ex(root, "cdiSpecDirs", &list) ||
        !json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list) && dirs.n < CRI_MAX_CDI_DIRS; i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        if (!json_object_is_type(item, json_type_string))
            continue;
        const char *text = json_object_get_string(item);
        if (is_plain(text, (size_t)json_object_get_string_len(item)))
            strings_add(&dirs, text);
    }
    cri_set_cdi_dirs(runtime, &dirs);
}

/* containerd: the key came with 1.7 (off), and is on where it is not said since 2.0 (containerd/containerd docs/cri/config.md) */
static void read_cdi(struct cri_runtime *runtime, struct json_object *root)
{
    struct json_object *value = NULL;
    unsigned major = 0, minor = 0;
    if (json_object_object_get_ex(root, "enableCDI", &value) &&
        json_object_is_type(value, json_type_boolean))
        runtime->cdi = json_object_get_boolean(value) ? CRI_YES : CRI_NO;
    else if (cri_version_major_minor(runtime->version, &major, &minor))
        runtime->cdi = major >= 2 ? CRI_YES : CRI_NO;
}

void cri_read_config(struct cri_runtime *runtime, const ProtobufCBinaryData *json)
{
    if (strcmp(runtime->name, "containerd") != 0)
        return;
    struct json_object *root = parse(json);
    if (!root)
        return;
    if (!runtime->handlers_known)
        read_handlers(runtime, root);
    read_cdi(runtime, root);
    read_dirs(runtime, root);
    if (runtime->cdi == CRI_YES && !runtime->cdi_dirs_known) {
        struct strings dirs = {0};
        strings_add(&dirs, "/etc/cdi");
        strings_add(&dirs, "/var/run/cdi");
        cri_set_cdi_dirs(runtime, &dirs);
    }
    json_object_put(root);
}
