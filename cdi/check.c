/* Rules of one CDI file beyond its shape: versions, names, values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/auto.h"
#include "cdi/cdi.h"
#include "cdi/names.h"
#include "cdi/ours.h"
#include "cdi/report.h"
#include "cdi/schema.h"

/* specs-go/version.go of cncf-tags/container-device-interface 1.1; a consumer knows only what its own list has */
static const int versions[] = {
    VERSION(0, 1, 0), VERSION(0, 2, 0), VERSION(0, 3, 0), VERSION(0, 4, 0), VERSION(0, 5, 0),
    VERSION(0, 6, 0), VERSION(0, 7, 0), VERSION(0, 8, 0), VERSION(1, 0, 0), VERSION(1, 1, 0),
};

/* What Kata's Go shim is built with (kata-containers/kata-containers src/runtime/go.mod) */
#define KATA_GO_VERSION VERSION(0, 6, 0)

static void version_text(int version, char ret[16])
{
    (void)snprintf(ret, 16, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

/* Return: the declared version, 0 when there is none that anybody knows. */
static int declared_version(struct scan *scan, const yaml_node_t *root)
{
    const yaml_node_t *node = node_member(scan, root, "cdiVersion");
    size_t len;
    const char *text = node_text(node, &len);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        char known[16];
        version_text(versions[i], known);
        /* the libraries take a leading v too */
        if (strcmp(text, known) == 0 || (text[0] == 'v' && strcmp(text + 1, known) == 0))
            return versions[i];
    }
    if (node)
        scan_error(scan, node, "write a version that exists, 0.5.0 is understood everywhere",
                   "cdiVersion \"%.40s\" does not exist", text);
    return 0;
}

static void check_version(struct scan *scan, const yaml_node_t *root)
{
    int declared = declared_version(scan, root);
    const yaml_node_t *node = node_member(scan, root, "cdiVersion");
    if (declared == 0)
        return;
    char have[16], need[16];
    version_text(declared, have);
    version_text(scan->need, need);
    if (scan->need > declared)
        scan_error(scan, node, "raise cdiVersion or leave the member away",
                   "cdiVersion is %s but \"%s\" in line %u needs %s", have, scan->need_what,
                   scan->need_line, need);
    if (declared <= KATA_GO_VERSION)
        return;
    /* a low need: the producer could have written an older version */
    scan_warning(scan, node,
                 scan->need <= KATA_GO_VERSION ? "let the tool that wrote it declare cdiVersion "
                                                 "0.5.0, or move the file away where Kata runs"
                                               : "move the file away where Kata runs, or let the "
                                                 "tool that wrote it leave out what needs "
                                                 "the newer version",
                 "cdiVersion %s is newer than 0.6.0, the last one that Kata's Go shim and older "
                 "podman read; "
                 "that shim then refuses every GPU sandbox, of every vendor",
                 have);
}

/* @ret: "vendor/class" and '=' for messages and names */
static bool check_kind(struct scan *scan, const yaml_node_t *root, char *ret, size_t room)
{
    const yaml_node_t *node = node_member(scan, root, "kind");
    size_t len;
    const char *text = node_text(node, &len);
    const char *slash = memchr(text, '/', len);
    (void)snprintf(ret, room, "%.254s=", text);
    if (!node)
        return false;
    size_t vendor_len = slash ? (size_t)(slash - text) : 0;
    size_t class_len = slash ? len - vendor_len - 1 : 0;
    if (!slash || vendor_len > 253 || !cdi_name_is_vendor(text, vendor_len) ||
        !cdi_name_is_class(slash + 1, class_len)) {
        scan_error(scan, node,
                   "write vendor/class, each starting with a letter and ending with a letter or "
                   "digit, of letters, digits, '_', '-' and '.'",
                   "kind \"%.100s\" is not a legal vendor/class", text);
        return false;
    }
    if (class_len > 63)
        scan_warning(scan, node, "shorten it", "the class has %zu characters, 63 are allowed",
                     class_len);
    if (memchr(slash, '.', class_len + 1))
        scan_require(scan, node, VERSION(0, 6, 0), "kind");
    return true;
}

static void check_env(struct scan *scan, const yaml_node_t *list)
{
    const yaml_node_t *item;
    for (size_t i = 0; (item = node_item(scan, list, i)); i++) {
        size_t len;
        const char *text = node_text(item, &len), *equals = memchr(text, '=', len);
        if (!equals || equals == text)
            scan_error(scan, item, "write NAME=value", "env entry \"%.60s\" has no name and '='",
                       text);
    }
}

static bool is_among(const char *text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static void check_node(struct scan *scan, const yaml_node_t *node)
{
    static const char *const types[] = {"", "b", "c", "u", "p"};
    size_t len;
    const char *type = node_text(node_member(scan, node, "type"), &len);
    if (!is_among(type, types, ARRAY_LEN(types)))
        scan_error(scan, node, "write b, c, u or p, or leave it away",
                   "device node type \"%.20s\" does not exist", type);
    const char *permissions = node_text(node_member(scan, node, "permissions"), &len);
    if (strcmp(permissions, "none") == 0)
        scan_warning(scan, node, "write letters of r, w, m",
                     "permissions \"none\" is known to the newest consumers only");
    else if (strspn(permissions, "rwm") != len)
        scan_error(scan, node, "write letters of r, w, m",
                   "device node permissions \"%.20s\" are not letters of r, w, m", permissions);
    if (node_member(scan, node, "path") && *node_text(node_member(scan, node, "path"), &len) == 0)
        scan_error(scan, node, "name the device node", "a device node has an empty path");
}

static void check_hook(struct scan *scan, const yaml_node_t *node)
{
    static const char *const names[] = {"prestart",       "createRuntime", "createContainer",
                                        "startContainer", "poststart",     "poststop"};
    size_t len;
    const yaml_node_t *name = node_member(scan, node, "hookName");
    const char *text = node_text(name, &len);
    if (name && !is_among(text, names, ARRAY_LEN(names)))
        scan_error(scan, name, "use a hook of the OCI runtime specification",
                   "hook \"%.40s\" does not exist", text);
    const yaml_node_t *path = node_member(scan, node, "path");
    if (path && *node_text(path, &len) == '\0')
        scan_error(scan, path, "name the program", "a hook has an empty path");
    check_env(scan, node_member(scan, node, "env"));
}

static void check_not_empty(struct scan *scan, const yaml_node_t *node, const char *what,
                            const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const yaml_node_t *value = node_member(scan, node, names[i]);
        size_t len;
        if (value && value->type == YAML_SCALAR_NODE && *node_text(value, &len) == '\0')
            scan_error(scan, value, "give it a value", "%s has an empty \"%s\"", what, names[i]);
    }
}

/* Return: true when the edits change anything. */
static bool check_edits(struct scan *scan, const yaml_node_t *edits)
{
    static const char *const lists[] = {"env",   "deviceNodes",    "mounts",
                                        "hooks", "additionalGids", "netDevices"};
    static const char *const mount_paths[] = {"hostPath", "containerPath"};
    static const char *const net_names[] = {"hostInterfaceName", "name"};
    const yaml_node_t *item;
    check_env(scan, node_member(scan, edits, "env"));
    for (size_t i = 0; (item = node_item(scan, node_member(scan, edits, "deviceNodes"), i)); i++)
        check_node(scan, item);
    for (size_t i = 0; (item = node_item(scan, node_member(scan, edits, "mounts"), i)); i++)
        check_not_empty(scan, item, "a mount", mount_paths, ARRAY_LEN(mount_paths));
    for (size_t i = 0; (item = node_item(scan, node_member(scan, edits, "hooks"), i)); i++)
        check_hook(scan, item);
    for (size_t i = 0; (item = node_item(scan, node_member(scan, edits, "netDevices"), i)); i++)
        check_not_empty(scan, item, "a network device", net_names, ARRAY_LEN(net_names));
    bool any = node_member(scan, edits, "intelRdt");
    for (size_t i = 0; i < ARRAY_LEN(lists) && !any; i++)
        any = node_item(scan, node_member(scan, edits, lists[i]), 0);
    return any;
}

static struct cdi_seen *add_seen(struct cdi_seen_list *list)
{
    if (list->n == list->room) {
        list->room = list->room > 0 ? 2 * list->room : 16;
        list->items = xrealloc(list->items, list->room, sizeof *list->items);
    }
    struct cdi_seen *seen = &list->items[list->n++];
    *seen = (struct cdi_seen){0};
    return seen;
}

/* The first node that a consumer will look for on the host: one that gives no device number itself. */
static void first_node(const struct scan *scan, const yaml_node_t *edits, char *ret, size_t room)
{
    const yaml_node_t *item, *nodes = node_member(scan, edits, "deviceNodes");
    for (size_t i = 0; (item = node_item(scan, nodes, i)); i++) {
        const yaml_node_t *path = node_member(scan, item, "hostPath");
        size_t len;
        if (node_member(scan, item, "type") && node_member(scan, item, "major"))
            continue;
        (void)snprintf(ret, room, "%s",
                       node_text(path ? path : node_member(scan, item, "path"), &len));
        return;
    }
}

static void check_device(struct scan *scan, const yaml_node_t *device, const char *kind,
                         struct cdi_seen_list *seen)
{
    const yaml_node_t *name = node_member(scan, device, "name");
    const yaml_node_t *edits = node_member(scan, device, "containerEdits");
    size_t len;
    const char *text = node_text(name, &len);
    if (name && !cdi_name_is_device(text, len))
        scan_error(
            scan, name,
            "start and end with a letter or digit; letters, digits, '_', '-', '.', ':' between",
            "\"%.60s\" is not a legal device name", text);
    else if (name && text[0] >= '0' && text[0] <= '9')
        scan_require(scan, name, VERSION(0, 5, 0), "name");
    if (edits && !check_edits(scan, edits))
        scan_error(scan, edits, "remove the device or say what it adds to the container",
                   "device \"%.60s\" has empty containerEdits", text);
    struct cdi_seen *one = add_seen(seen);
    one->line = node_line(name);
    (void)snprintf(one->name, sizeof one->name, "%s%.60s", kind, text);
    first_node(scan, edits, one->node, sizeof one->node);
}

static void check_devices(struct scan *scan, const yaml_node_t *root, const char *kind,
                          struct cdi_seen_list *seen)
{
    const yaml_node_t *item, *list = node_member(scan, root, "devices");
    if (list && list->type == YAML_SEQUENCE_NODE && !node_item(scan, list, 0))
        scan_error(scan, list, "remove the file", "the file has no devices");
    for (size_t i = 0; (item = node_item(scan, list, i)); i++)
        check_device(scan, item, kind, seen);
    cdi_seen_sort(seen);
    for (size_t i = 1; i < seen->n; i++)
        if (strcmp(seen->items[i].name, seen->items[i - 1].name) == 0) {
            scan->failed = true;
            cdi_report_add(scan->report, CDI_ERROR, scan->ours, scan->file, seen->items[i].line,
                           "give every device a name of its own",
                           "device \"%s\" is already in line %u", seen->items[i].name,
                           seen->items[i - 1].line);
        }
}

/* After an error, or for a second document that nobody reads, nothing more is said about the rest. */
static void check_one_document(struct scan *scan, yaml_parser_t *parser)
{
    yaml_document_t next;
    if (!yaml_parser_load(parser, &next))
        return;
    const yaml_node_t *root = yaml_document_get_root_node(&next);
    if (root)
        scan_warning(scan, root, "make one file of each",
                     "a second YAML document begins here: Kata's Rust shim refuses the file, the "
                     "others ignore the rest");
    yaml_document_delete(&next);
}

static void check_document(struct scan *scan, struct cdi_seen_list *seen)
{
    const yaml_node_t *root = yaml_document_get_root_node(scan->doc);
    if (node_is_null(root)) {
        scan_error(scan, NULL, "remove it", "the file is empty");
        return;
    }
    schema_walk(scan, root);
    if (scan->failed && root->type != YAML_MAPPING_NODE)
        return;
    char kind[260];
    (void)check_kind(scan, root, kind, sizeof kind);
    (void)check_edits(scan, node_member(scan, root, "containerEdits"));
    check_devices(scan, root, kind, seen);
    check_version(scan, root);
}

/* Deeper than any CDI file; libyaml's time grows with the square of the depth of flow collections. */
#define MAX_DEPTH 100

static bool is_too_deep(const char *text, size_t len, unsigned *ret_line)
{
    int depth = 0;
    *ret_line = 1;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n')
            ++*ret_line;
        else if (text[i] == '[' || text[i] == '{')
            depth++;
        else if (depth > 0 && (text[i] == ']' || text[i] == '}'))
            depth--;
        if (depth > MAX_DEPTH)
            return true;
    }
    return false;
}

/* libyaml puts the end of a text one line behind its last one. */
static unsigned last_line(const char *text, size_t len)
{
    unsigned lines = 1;
    for (size_t i = 0; i + 1 < len; i++)
        lines += text[i] == '\n';
    return lines;
}

static void parse(struct scan *scan, const char *text, size_t len, struct cdi_seen_list *seen)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    yaml_document_t doc;
    if (yaml_parser_load(&parser, &doc)) {
        scan->doc = &doc;
        check_document(scan, seen);
        scan->doc = NULL;
        yaml_document_delete(&doc);
        if (!scan->failed)
            check_one_document(scan, &parser);
    } else {
        unsigned line = (unsigned)parser.problem_mark.line + 1, last = last_line(text, len);
        scan->failed = true;
        cdi_report_add(scan->report, CDI_ERROR, scan->ours, scan->file, line < last ? line : last,
                       "let the tool that owns the file write it anew, or remove it",
                       "neither YAML nor JSON: %s", parser.problem ? parser.problem : "unreadable");
    }
    yaml_parser_delete(&parser);
}

void cdi_scan(const char *file, const char *text, size_t len, struct cdi_report *report,
              struct cdi_seen_list *seen)
{
    struct cdi_seen_list devices = {0};
    struct scan scan = {
        .report = report, .file = file, .ours = cdi_text_is_ours(text, len), .need_what = ""};
    unsigned line;
    report->n_files++;
    if (is_too_deep(text, len, &line)) {
        scan.failed = true;
        cdi_report_add(report, CDI_ERROR, scan.ours, file, line, "remove the file",
                       "brackets are nested deeper than %d", MAX_DEPTH);
    } else {
        parse(&scan, text, len, &devices);
    }
    if (!scan.failed) {
        report->n_devices += devices.n;
        for (size_t i = 0; seen && i < devices.n; i++)
            *add_seen(seen) = devices.items[i];
    }
    cdi_seen_free(&devices);
}

void cdi_check_text(const char *file, const char *text, size_t len, struct cdi_report *report)
{
    cdi_scan(file, text, len, report, NULL);
}
