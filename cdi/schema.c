#include "cdi/schema.h"

#include <string.h>

#include "base/auto.h"

#define MAX_VISITS 200000

enum shape { TEXT, INTEGER, FLAG, TEXTS, INTEGERS, TEXT_MAP, OBJECT, OBJECTS };

struct member {
    const char *name;
    enum shape shape;
    int since;
    bool required;
    const struct object *of;
};

struct object {
    const char *what;
    const struct member *members;
    size_t n;
};

#define OBJECT_OF(variable, text, list)                                                            \
    static const struct object variable = {.what = text, .members = list, .n = ARRAY_LEN(list)}

static const struct member node_members[] = {
    {.name = "path", .shape = TEXT, .required = true},
    {.name = "hostPath", .shape = TEXT, .since = VERSION(0, 5, 0)},
    {.name = "type", .shape = TEXT},
    {.name = "major", .shape = INTEGER},
    {.name = "minor", .shape = INTEGER},
    {.name = "fileMode", .shape = INTEGER},
    {.name = "permissions", .shape = TEXT},
    {.name = "uid", .shape = INTEGER},
    {.name = "gid", .shape = INTEGER},
};
OBJECT_OF(device_node, "device node", node_members);

static const struct member mount_members[] = {
    {.name = "hostPath", .shape = TEXT, .required = true},
    {.name = "containerPath", .shape = TEXT, .required = true},
    {.name = "options", .shape = TEXTS},
    {.name = "type", .shape = TEXT, .since = VERSION(0, 4, 0)},
};
OBJECT_OF(mount, "mount", mount_members);

static const struct member hook_members[] = {
    {.name = "hookName", .shape = TEXT, .required = true},
    {.name = "path", .shape = TEXT, .required = true},
    {.name = "args", .shape = TEXTS},
    {.name = "env", .shape = TEXTS},
    {.name = "timeout", .shape = INTEGER},
};
OBJECT_OF(hook, "hook", hook_members);

static const struct member rdt_members[] = {
    {.name = "closID", .shape = TEXT},
    {.name = "l3CacheSchema", .shape = TEXT},
    {.name = "memBwSchema", .shape = TEXT},
    {.name = "enableCMT", .shape = FLAG},
    {.name = "enableMBM", .shape = FLAG},
    {.name = "schemata", .shape = TEXTS, .since = VERSION(1, 1, 0)},
    {.name = "enableMonitoring", .shape = FLAG, .since = VERSION(1, 1, 0)},
};
OBJECT_OF(rdt, "intelRdt", rdt_members);

static const struct member net_members[] = {
    {.name = "hostInterfaceName", .shape = TEXT, .required = true},
    {.name = "name", .shape = TEXT, .required = true},
};
OBJECT_OF(net, "network device", net_members);

static const struct member edits_members[] = {
    {.name = "env", .shape = TEXTS},
    {.name = "deviceNodes", .shape = OBJECTS, .of = &device_node},
    {.name = "mounts", .shape = OBJECTS, .of = &mount},
    {.name = "hooks", .shape = OBJECTS, .of = &hook},
    {.name = "intelRdt", .shape = OBJECT, .since = VERSION(0, 7, 0), .of = &rdt},
    {.name = "additionalGids", .shape = INTEGERS, .since = VERSION(0, 7, 0)},
    {.name = "netDevices", .shape = OBJECTS, .since = VERSION(1, 1, 0), .of = &net},
};
OBJECT_OF(edits, "containerEdits", edits_members);

static const struct member device_members[] = {
    {.name = "name", .shape = TEXT, .required = true},
    {.name = "annotations", .shape = TEXT_MAP, .since = VERSION(0, 6, 0)},
    {.name = "containerEdits", .shape = OBJECT, .required = true, .of = &edits},
};
OBJECT_OF(device, "device", device_members);

static const struct member spec_members[] = {
    {.name = "cdiVersion", .shape = TEXT, .required = true},
    {.name = "kind", .shape = TEXT, .required = true},
    {.name = "annotations", .shape = TEXT_MAP, .since = VERSION(0, 6, 0)},
    {.name = "devices", .shape = OBJECTS, .required = true, .of = &device},
    {.name = "containerEdits", .shape = OBJECT, .of = &edits},
};
OBJECT_OF(spec, "CDI specification", spec_members);

unsigned node_line(const yaml_node_t *node)
{
    return node ? (unsigned)node->start_mark.line + 1 : 0;
}

const char *node_text(const yaml_node_t *node, size_t *ret_len)
{
    bool scalar = node && node->type == YAML_SCALAR_NODE;
    *ret_len = scalar ? node->data.scalar.length : 0;
    return scalar ? (const char *)node->data.scalar.value : "";
}

static bool is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_one_of(const yaml_node_t *node, const char *const *words, size_t n)
{
    size_t len;
    const char *text = node_text(node, &len);
    for (size_t i = 0; i < n; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
            return true;
    return false;
}

bool node_is_null(const yaml_node_t *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    return !node || (is_plain(node) && is_one_of(node, words, ARRAY_LEN(words)));
}

static bool is_flag(const yaml_node_t *node)
{
    static const char *const words[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    return is_plain(node) && is_one_of(node, words, ARRAY_LEN(words));
}

/* Numbers as all three parsers read them: decimal, hexadecimal, octal; a sign. */
static bool is_number(const yaml_node_t *node)
{
    size_t len;
    const char *text = node_text(node, &len);
    if (!is_plain(node) || len == 0)
        return false;
    size_t i = text[0] == '-' || text[0] == '+';
    const char *digits = "0123456789";
    if (len > i + 2 && text[i] == '0' && (text[i + 1] == 'x' || text[i + 1] == 'o')) {
        digits = text[i + 1] == 'x' ? "0123456789abcdefABCDEF" : "01234567";
        i += 2;
    }
    return i < len && strspn(text + i, digits) == len - i;
}

const yaml_node_t *node_member(const struct scan *scan, const yaml_node_t *map, const char *name)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(scan->doc, p->key);
        if (!key || !is_one_of(key, &name, 1))
            continue;
        const yaml_node_t *value = yaml_document_get_node(scan->doc, p->value);
        return node_is_null(value) ? NULL : value;
    }
    return NULL;
}

const yaml_node_t *node_item(const struct scan *scan, const yaml_node_t *list, size_t i)
{
    if (!list || list->type != YAML_SEQUENCE_NODE)
        return NULL;
    size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    return i < n ? yaml_document_get_node(scan->doc, list->data.sequence.items.start[i]) : NULL;
}

void scan_require(struct scan *scan, const yaml_node_t *node, int version, const char *what)
{
    if (version <= scan->need)
        return;
    scan->need = version;
    scan->need_line = node_line(node);
    scan->need_what = what;
}

static bool is_empty(const yaml_node_t *node)
{
    switch (node->type) {
    case YAML_SCALAR_NODE:
        return node->data.scalar.length == 0;
    case YAML_SEQUENCE_NODE:
        return node->data.sequence.items.start == node->data.sequence.items.top;
    case YAML_MAPPING_NODE: /* an empty intelRdt counts */
    case YAML_NO_NODE:
        break;
    }
    return false;
}

/* Is there still room to look at one more node? Says so once when there is not. */
static bool may_visit(struct scan *scan, const yaml_node_t *node)
{
    if (scan->visits++ < MAX_VISITS)
        return true;
    if (scan->visits == MAX_VISITS + 1)
        scan_error(scan, node, "split the file", "the file has more than %d values", MAX_VISITS);
    return false;
}

#define RULES_CURE "write the member as SPEC.md of the Container Device Interface says"

static void check_scalar(struct scan *scan, const yaml_node_t *node, const char *name,
                         enum shape shape)
{
    if (!may_visit(scan, node))
        return;
    bool ok =
        node->type == YAML_SCALAR_NODE; /* numbers without quotes are taken as strings by all */
    const char *wanted = "a string";
    if (shape == INTEGER) {
        ok = is_number(node);
        wanted = "a whole number without quotes";
    } else if (shape == FLAG) {
        ok = is_flag(node);
        wanted = "true or false";
    }
    if (!ok)
        scan_error(scan, node, RULES_CURE, "\"%s\" must be %s", name, wanted);
}

static void walk_object(struct scan *scan, const yaml_node_t *node, const struct object *object);

static void walk_list(struct scan *scan, const yaml_node_t *node, const struct member *member)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        scan_error(scan, node, RULES_CURE, "\"%s\" must be a list", member->name);
        return;
    }
    const yaml_node_t *item;
    for (size_t i = 0; (item = node_item(scan, node, i)) && scan->visits <= MAX_VISITS; i++) {
        if (member->of)
            walk_object(scan, item, member->of);
        else
            check_scalar(scan, item, member->name, member->shape == TEXTS ? TEXT : INTEGER);
    }
}

static void walk_map(struct scan *scan, const yaml_node_t *node, const char *name)
{
    if (node->type != YAML_MAPPING_NODE) {
        scan_error(scan, node, RULES_CURE, "\"%s\" must be a map of strings", name);
        return;
    }
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         p < node->data.mapping.pairs.top && scan->visits <= MAX_VISITS; p++)
        check_scalar(scan, yaml_document_get_node(scan->doc, p->value), name, TEXT);
}

static void walk_member(struct scan *scan, const yaml_node_t *node, const struct member *member)
{
    if (node_is_null(node) || !may_visit(scan, node))
        return;
    if (member->since && !is_empty(node))
        scan_require(scan, node, member->since, member->name);
    switch (member->shape) {
    case TEXT:
    case INTEGER:
    case FLAG:
        check_scalar(scan, node, member->name, member->shape);
        break;
    case TEXTS:
    case INTEGERS:
    case OBJECTS:
        walk_list(scan, node, member);
        break;
    case TEXT_MAP:
        walk_map(scan, node, member->name);
        break;
    case OBJECT:
        if (member->of)
            walk_object(scan, node, member->of);
        break;
    }
}

static const struct member *find_member(const struct object *object, const yaml_node_t *key)
{
    for (size_t i = 0; i < object->n; i++)
        if (key && is_one_of(key, &object->members[i].name, 1))
            return &object->members[i];
    return NULL;
}

static void walk_object(struct scan *scan, const yaml_node_t *node, const struct object *object)
{
    if (!may_visit(scan, node))
        return;
    if (node->type != YAML_MAPPING_NODE) {
        scan_error(scan, node, RULES_CURE, "a %s must be a map", object->what);
        return;
    }
    bool seen[16] = {false}; /* more than any table has */
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         p < node->data.mapping.pairs.top && scan->visits <= MAX_VISITS; p++) {
        const yaml_node_t *key = yaml_document_get_node(scan->doc, p->key);
        const struct member *member = find_member(object, key);
        size_t len;
        if (!member) {
            scan_error(scan, key, "remove it: every consumer refuses the whole file because of it",
                       "a %s has no member \"%.60s\"", object->what, node_text(key, &len));
            continue;
        }
        if (seen[member - object->members])
            scan_error(scan, key, "keep one of them", "\"%s\" is given twice", member->name);
        seen[member - object->members] = true;
        walk_member(scan, yaml_document_get_node(scan->doc, p->value), member);
    }
    for (size_t i = 0; i < object->n; i++)
        if (object->members[i].required && !node_member(scan, node, object->members[i].name))
            scan_error(scan, node, RULES_CURE, "a %s needs the member \"%s\"", object->what,
                       object->members[i].name);
}

void schema_walk(struct scan *scan, const yaml_node_t *root)
{
    walk_object(scan, root, &spec);
}
