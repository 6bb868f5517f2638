#include "node-agent/config_keys.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/resource_name.h"
#include "node-agent/gpu/selectors.h"

static const struct word mode_words[] = {
    {"on", CC_MODE_ON},
    {"off", CC_MODE_OFF},
    {"devtools", CC_MODE_DEVTOOLS},
    {"ppcie", CC_MODE_PPCIE},
    {NULL, 0},
};
static const struct word workload_words[] = {
    {"vm-passthrough", WORKLOAD_VM_PASSTHROUGH},
    {"container", WORKLOAD_CONTAINER},
    {NULL, 0},
};
static const struct word busy_words[] = {
    {"wait", BUSY_WAIT},
    {"evict", BUSY_EVICT},
    {"fail", BUSY_FAIL},
    {NULL, 0},
};
static const struct word failure_words[] = {
    {"serve-rest", FAILURE_SERVE_REST},
    {"hold-all", FAILURE_HOLD_ALL},
    {NULL, 0},
};
static const struct word naming_words[] = {
    {"model", NAMING_MODEL},
    {"alias", NAMING_ALIAS},
    {NULL, 0},
};
static const struct word id_words[] = {
    {"bdf", DEVICE_ID_BDF},
    {"number", DEVICE_ID_NUMBER},
    {NULL, 0},
};
static const struct word level_words[] = {
    {"debug", LOG_LEVEL_DEBUG},
    {"info", LOG_LEVEL_INFO},
    {"warning", LOG_LEVEL_WARNING},
    {"error", LOG_LEVEL_ERROR},
    {NULL, 0},
};
static const struct word format_words[] = {
    {"text", LOG_FORMAT_TEXT},
    {"json", LOG_FORMAT_JSON},
    {NULL, 0},
};

static const char *check_path(const char *text)
{
    if (*text != '/' || strstr(text, "/../") || strchr(text, '\n'))
        return "an absolute path";
    return NULL;
}

static const char *check_cri(const char *text)
{
    if (!*text || strcmp(text, "auto") == 0 || !check_path(text))
        return NULL;
    return "auto, \"\" or an absolute path";
}

static bool is_name(const char *text, const char *inner, size_t max)
{
    size_t n = strlen(text);
    if (n == 0 || n > max || !isalnum((unsigned char)text[0]) ||
        !isalnum((unsigned char)text[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr(inner, text[i]))
            return false;
    }
    return true;
}

static const char *check_resource(const char *text)
{
    return resource_name_ok(text)
               ? NULL
               : "a resource name without \"nvidia.com/\": letters, digits, - and _ (at most 63), "
                 "a letter first, a letter or digit last";
}

static const char *check_partition(const char *text)
{
    return is_name(text, "-_.", 63) ? NULL : "a name: letters, digits, - _ . (at most 63)";
}

static const char *check_driver(const char *text)
{
    return is_name(text, "-_", 31) ? NULL : "auto or the name of a driver";
}

static const char *check_lease(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (isupper((unsigned char)*p))
            return "a lower-case object name";
    }
    return is_name(text, "-.", 253) ? NULL : "a lower-case object name";
}

static const char *check_listen(const char *text)
{
    static const char wanted[] =
        "\"\", ADDRESS:PORT such as 127.0.0.1:9408 (port 0 = any), or unix:/PATH";
    if (!*text || strncmp(text, "unix:/", 6) == 0)
        return NULL;
    const char *colon = strrchr(text, ':');
    if (!colon || strlen(colon + 1) > 5 || !isdigit((unsigned char)colon[1]))
        return wanted;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end || port > 65535)
        return wanted;
    for (const char *p = text; p < colon; p++) {
        if (!isxdigit((unsigned char)*p) && !strchr(".:[]", *p))
            return wanted;
    }
    return NULL;
}

/* Whether a selector matches something is not a matter of the file; that it could is. A mistyped one in devices.exclude
 * would name nothing, and the device be switched and reset. */
static const char *check_selector(const char *text)
{
    return selectors_is_one(text) ? NULL
                                  : "one device selector: gpus, nvswitches, gpus[0], gpus[0:4], a "
                                    "BDF (0000:18:00.0) or "
                                    "a part of it, or vendor:device (10de:2331)";
}

static const char *check_device_or_id(const char *text)
{
    size_t n = strlen(text);
    if (n >= 9 && n <= 15 && strspn(text, "0123456789abcdefABCDEF:.") == n && strchr(text, ':'))
        return NULL;
    return "vendor:device (10de:2331) or a BDF (0000:18:00.0)";
}

static const char *check_mode(const char *text)
{
    for (const struct word *w = mode_words; w->text; w++) {
        if (strcmp(w->text, text) == 0)
            return NULL;
    }
    return "one of on, off, devtools, ppcie";
}

#define AT(field) offsetof(struct config, field)
#define DAY_MS (24 * 60 * 60 * 1000)

/* clang-format off: one key a line */
const struct config_key config_keys[] = {
    {"mode", "default", KEY_WORD, AT(default_mode), "off", mode_words, 0, NULL, NULL, NULL,
     "mode of the devices when the node carries no nvidia.com/cc.mode label"},
    {"mode", "manage", KEY_BOOL, AT(mode_manage), "true", NULL, 0, NULL, NULL, NULL,
     "false: no mode is ever changed; devices are verified and offered in the mode that they have"},
    {"workload", "default", KEY_WORD, AT(default_workload), "vm-passthrough", workload_words, 0,
     NULL, NULL, NULL,
     "what the GPUs are for when the node carries no nvidia.com/gpu.workload.config label"},
    {"devices", "include", KEY_LIST, AT(include), "gpus,nvswitches", NULL, 0, check_selector, NULL,
     NULL, "selectors of the devices to manage"},
    {"devices", "exclude", KEY_LIST, AT(exclude), "", NULL, 0, check_selector, NULL, NULL,
     "selectors of devices that are left alone"},
    {"devices", "modes", KEY_MAP, AT(modes), "", NULL, 0, check_mode, check_selector, NULL,
     "selector: mode; wins over the label"},
    {"devices", "verifyInterval", KEY_DURATION, AT(verify_interval_ms), "5m", NULL, DAY_MS, NULL,
     NULL, NULL,
     "registers of idle devices are read again this often, unless that needs VFIO (lockdown); 0s = "
     "only after events"},
    {"busy", "policy", KEY_WORD, AT(busy_policy), "wait", busy_words, 0, NULL, NULL, NULL,
     "what happens when a device that must change is in use"},
    {"busy", "evictTimeout", KEY_DURATION, AT(evict_timeout_ms), "5m", NULL, DAY_MS, NULL, NULL,
     NULL, "how long evicted pods may take to leave; longer is told, and waited for"},
    {"failure", "policy", KEY_WORD, AT(failure_policy), "serve-rest", failure_words, 0, NULL, NULL,
     NULL, "hold-all: one failed device withdraws all"},
    {"vfio", "manage", KEY_BOOL, AT(vfio_manage), "true", NULL, 0, NULL, NULL, NULL,
     "bind the devices to VFIO"},
    {"vfio", "driver", KEY_TEXT, AT(vfio_driver), "auto", NULL, 0, check_driver, NULL, NULL,
     "auto = the best VFIO driver for the device, or its name"},
    {"devicePlugin", "enabled", KEY_BOOL, AT(plugin_enabled), "true", NULL, 0, NULL, NULL, NULL,
     "offer the devices to kubelet"},
    {"devicePlugin", "directory", KEY_TEXT, AT(plugin_directory), "/var/lib/kubelet/device-plugins",
     NULL, 0, check_path, NULL, "devicePlugin.directory",
     "kubelet's device plugin directory, on the host"},
    {"devicePlugin", "naming", KEY_WORD, AT(naming), "model", naming_words, 0, NULL, NULL, NULL,
     "resources by model (GH100_H100_PCIE) or all under one alias"},
    {"devicePlugin", "names", KEY_MAP, AT(names), "", NULL, 0, check_resource, check_device_or_id,
     NULL, "vendor:device or BDF: resource name; wins over the built-in table"},
    {"devicePlugin", "partitions", KEY_MAP, AT(partitions), "", NULL, 0, check_partition,
     check_selector, NULL,
     "selector: NVLink partition as Fabric Manager has it; a container's GPUs come out of one if "
     "they can"},
    {"devicePlugin", "gpuAlias", KEY_TEXT, AT(gpu_alias), "pgpu", NULL, 0, check_resource, NULL,
     NULL, "resource of all GPUs with naming alias"},
    {"devicePlugin", "switchAlias", KEY_TEXT, AT(switch_alias), "nvswitch", NULL, 0, check_resource,
     NULL, NULL, "resource of all NVSwitches with naming alias"},
    {"devicePlugin", "deviceIdStyle", KEY_WORD, AT(device_id_style), "bdf", id_words, 0, NULL, NULL,
     NULL, "number = IOMMU group or cdev number, as NVIDIA's sandbox-device-plugin"},
    {"devicePlugin", "cdiDevices", KEY_BOOL, AT(cdi_devices), "false", NULL, 0, NULL, NULL, NULL,
     "name CDI devices in Allocate answers"},
    {"cdi", "enabled", KEY_BOOL, AT(cdi_enabled), "true", NULL, 0, NULL, NULL, NULL,
     "write CDI specs"},
    {"cdi", "directory", KEY_TEXT, AT(cdi_directory), "/var/run/cdi", NULL, 0, check_path, NULL,
     NULL, "where, on the host"},
    {"podResources", "socket", KEY_TEXT, AT(pod_resources_socket),
     "/var/lib/kubelet/pod-resources/kubelet.sock", NULL, 0, check_path, NULL, NULL,
     "kubelet's PodResources socket, on the host"},
    {"validations", "enabled", KEY_BOOL, AT(validations_enabled), "true", NULL, 0, NULL, NULL, NULL,
     "write the readiness files other operands wait for"},
    {"validations", "directory", KEY_TEXT, AT(validations_directory), "/run/nvidia/validations",
     NULL, 0, check_path, NULL, NULL, "where, on the host"},
    {"cri", "socket", KEY_TEXT, AT(cri_socket), "auto", NULL, 0, check_cri, NULL, NULL,
     "container runtime to ask: auto, \"\" = none, or its socket"},
    {"concurrency", "max", KEY_INT, AT(concurrency_max), "0", NULL, 10000, NULL, NULL, NULL,
     "nodes of the cluster that may change mode at the same time; 0 = no limit"},
    {"concurrency", "lease", KEY_TEXT, AT(concurrency_lease), "ccnode-mode-change", NULL, 0,
     check_lease, NULL, NULL, "name of the Lease objects that count them"},
    {"recovery", "rescan", KEY_BOOL, AT(recovery_rescan), "false", NULL, 0, NULL, NULL, NULL,
     "reset a dead device by its bridge, else remove it from the bus and rescan"},
    {"recovery", "loadModules", KEY_BOOL, AT(recovery_load_modules), "true", NULL, 0, NULL, NULL,
     NULL, "load the VFIO driver when it is not there"},
    {"recovery", "checkReleased", KEY_BOOL, AT(recovery_check_released), "true", NULL, 0, NULL,
     NULL, NULL, "open a released device as a VM does, before it is offered again"},
    {"state", "directory", KEY_TEXT, AT(state_directory), "/var/lib/ccnode", NULL, 0, check_path,
     NULL, "state.directory", "journal and status, on the host"},
    {"http", "listen", KEY_TEXT, AT(http_listen), "127.0.0.1:9408", NULL, 0, check_listen, NULL,
     "http.listen", "metrics and health; \"\" = no listener"},
    {"log", "level", KEY_WORD, AT(log_level), "info", level_words, 0, NULL, NULL, NULL,
     "least important line that is written"},
    {"log", "format", KEY_WORD, AT(log_format), "text", format_words, 0, NULL, NULL, "log.format",
     "text = logfmt, json = one object a line"},
};
/* clang-format on */
const size_t config_n_keys = ARRAY_LEN(config_keys);

/* Every enumeration of struct config is stored through an int. */
_Static_assert(sizeof(enum cc_mode) == sizeof(int) && sizeof(enum workload) == sizeof(int) &&
                   sizeof(enum log_level) == sizeof(int),
               "enumerations have the size of int");

static void *field_of(const struct config_key *key, struct config *config)
{
    return (char *)config + key->offset;
}

static const void *const_field_of(const struct config_key *key, const struct config *config)
{
    return (const char *)config + key->offset;
}

static const char *set_word(const struct config_key *key, struct config *config, const char *text,
                            char why[static 160])
{
    size_t used = 0;
    for (const struct word *w = key->words; w->text; w++) {
        if (strcmp(w->text, text) == 0) {
            memcpy(field_of(key, config), &w->value, sizeof w->value);
            return NULL;
        }
        int n = snprintf(why + used, 160 - used, "%s%s", used ? ", " : "one of ", w->text);
        used += n > 0 && (size_t)n < 160 - used ? (size_t)n : 0;
    }
    return why;
}

static bool parse_digits(const char **text, long long *ret)
{
    if (!isdigit((unsigned char)**text))
        return false;
    long long value = 0;
    for (; isdigit((unsigned char)**text); (*text)++) {
        value = value * 10 + (**text - '0');
        if (value > INT_MAX)
            return false;
    }
    *ret = value;
    return true;
}

static const char *set_int(const struct config_key *key, struct config *config, const char *text,
                           char why[static 160])
{
    long long value;
    if (!parse_digits(&text, &value) || *text || value > key->max) {
        (void)snprintf(why, 160, "a whole number from 0 to %d", key->max);
        return why;
    }
    *(int *)field_of(key, config) = (int)value;
    return NULL;
}

static const char *set_duration(const struct config_key *key, struct config *config,
                                const char *text)
{
    static const struct word units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {NULL, 0},
    };
    static const char wanted[] = "a duration such as 250ms, 90s, 5m or 1h, at most 24h";
    long long value, factor = 0;
    if (!parse_digits(&text, &value))
        return wanted;
    for (const struct word *unit = units; unit->text; unit++) {
        if (strcmp(unit->text, text) == 0)
            factor = unit->value;
    }
    if (factor == 0 || value * factor > key->max)
        return wanted;
    *(int *)field_of(key, config) = (int)(value * factor);
    return NULL;
}

static const char *set_text(const struct config_key *key, struct config *config, const char *text)
{
    const char *wanted = key->check(text);
    if (wanted)
        return wanted;
    char **field = field_of(key, config);
    free(*field);
    *field = xstrdup(text);
    return NULL;
}

const char *config_key_set(const struct config_key *key, struct config *config, const char *text,
                           char why[static 160])
{
    switch (key->type) {
    case KEY_WORD:
        return set_word(key, config, text, why);
    case KEY_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return "true or false, without quotes";
        *(bool *)field_of(key, config) = strcmp(text, "true") == 0;
        return NULL;
    case KEY_INT:
        return set_int(key, config, text, why);
    case KEY_DURATION:
        return set_duration(key, config, text);
    case KEY_TEXT:
        return set_text(key, config, text);
    case KEY_LIST:
        return "a list";
    case KEY_MAP:
        break;
    }
    return "a map";
}

const char *config_key_add(const struct config_key *key, struct config *config, const char *map_key,
                           const char *text)
{
    const char *wanted = map_key && key->check_key ? key->check_key(map_key) : NULL;
    if (!wanted)
        wanted = key->check(text);
    if (wanted)
        return wanted;
    if (key->type == KEY_LIST) {
        struct config_list *list = field_of(key, config);
        if (list->n == CONFIG_MAX_ENTRIES)
            return "at most 64 entries";
        list->items = xrealloc(list->items, list->n + 1, sizeof *list->items);
        list->items[list->n++] = xstrdup(text);
        return NULL;
    }
    struct config_map *map = field_of(key, config);
    if (map->n == CONFIG_MAX_ENTRIES)
        return "at most 64 entries";
    map->pairs = xrealloc(map->pairs, map->n + 1, sizeof *map->pairs);
    map->pairs[map->n++] = (struct config_pair){xstrdup(map_key), xstrdup(text)};
    return NULL;
}

void config_key_clear(const struct config_key *key, struct config *config)
{
    void *field = field_of(key, config);
    if (key->type == KEY_TEXT) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (key->type == KEY_LIST) {
        struct config_list *list = field;
        for (size_t i = 0; i < list->n; i++)
            free(list->items[i]);
        free(list->items);
        *list = (struct config_list){0};
    } else if (key->type == KEY_MAP) {
        struct config_map *map = field;
        for (size_t i = 0; i < map->n; i++) {
            free(map->pairs[i].key);
            free(map->pairs[i].value);
        }
        free(map->pairs);
        *map = (struct config_map){0};
    }
}

static bool lists_equal(const struct config_list *a, const struct config_list *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; equal && i < a->n; i++)
        equal = strcmp(a->items[i], b->items[i]) == 0;
    return equal;
}

static bool maps_equal(const struct config_map *a, const struct config_map *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; equal && i < a->n; i++)
        equal = strcmp(a->pairs[i].key, b->pairs[i].key) == 0 &&
                strcmp(a->pairs[i].value, b->pairs[i].value) == 0;
    return equal;
}

bool config_key_equal(const struct config_key *key, const struct config *a, const struct config *b)
{
    const void *x = const_field_of(key, a), *y = const_field_of(key, b);
    switch (key->type) {
    case KEY_TEXT:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case KEY_LIST:
        return lists_equal(x, y);
    case KEY_MAP:
        return maps_equal(x, y);
    case KEY_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case KEY_WORD:
    case KEY_INT:
    case KEY_DURATION:
        break;
    }
    return *(const int *)x == *(const int *)y;
}
