#include "simulator/tree/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"

struct doc {
    yaml_document_t yaml;
    struct err *err;
};

/* What a key takes. */
enum take { TAKE_TEXT, TAKE_BOOL, TAKE_NOT, TAKE_INT, TAKE_HEX16, TAKE_HEX24, TAKE_BDF };

struct key {
    const char *name;
    enum take take;
    size_t at, room;
    const char *words; /* allowed values between blanks, or NULL */
};

#define DEV(member)                                                                                \
    offsetof(struct profile_device, member), sizeof(((struct profile_device *)0)->member)
#define TOP(member) offsetof(struct profile, member), sizeof(((struct profile *)0)->member)

static const struct key device_keys[] = {
    {"bdf", TAKE_BDF, DEV(bdf), NULL},
    {"model", TAKE_TEXT, DEV(model),
     " h100-pcie h100-sxm h200-sxm b200 rtx-pro-6000 ls10 a100 audio vf nic other "},
    {"path", TAKE_TEXT, DEV(path), NULL},
    {"driver", TAKE_TEXT, DEV(driver), NULL},
    {"mode", TAKE_TEXT, DEV(mode), " off on devtools ppcie "},
    {"physfn", TAKE_BDF, DEV(physfn), NULL},
    {"numa", TAKE_INT, DEV(numa), NULL},
    {"group", TAKE_INT, DEV(group), NULL},
    {"ppcie", TAKE_NOT, DEV(no_ppcie), NULL},
    {"plugged", TAKE_NOT, DEV(unplugged), NULL},
    {"vendor", TAKE_HEX16, DEV(vendor_id), NULL},
    {"device", TAKE_HEX16, DEV(device_id), NULL},
    {"class", TAKE_HEX24, DEV(class_code), NULL},
};

static const struct key top_keys[] = {
    {"description", TAKE_TEXT, TOP(description), NULL},
    {"tee", TAKE_TEXT, TOP(tee), " snp tdx none "},
    {"tee_enabled", TAKE_BOOL, TOP(tee_enabled), NULL},
    {"lockdown", TAKE_TEXT, TOP(lockdown), " none integrity confidentiality "},
    {"iommu", TAKE_BOOL, TOP(iommu), NULL},
    {"cdev", TAKE_BOOL, TOP(cdev), NULL},
    {"idle_d3", TAKE_BOOL, TOP(idle_d3), NULL},
    {"vfio_loaded", TAKE_BOOL, TOP(vfio_loaded), NULL},
    {"release", TAKE_TEXT, TOP(release), NULL},
};

static int fail(const struct doc *doc, const yaml_node_t *node, const char *what, const char *value)
{
    return err_set(doc->err, EINVAL, "line %zu, column %zu: %s%s%.60s", node->start_mark.line + 1,
                   node->start_mark.column + 1, what, value ? ": " : "", value ? value : "");
}

/* Return: NULL with err set when it is no plain value */
static const char *text_of(struct doc *doc, const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE) {
        (void)fail(doc, node, "one value is wanted here", NULL);
        return NULL;
    }
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0x20 && text[i] != 0x7f)
            continue;
        (void)fail(doc, node, "control character in a value", NULL);
        return NULL;
    }
    return text;
}

bool profile_bdf_ok(const char *text)
{
    static const char form[] = "xxxx:xx:xx.o";
    if (strlen(text) != sizeof form - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        const char *allowed = form[i] == 'x' ? "0123456789abcdef" : "01234567";
        if (form[i] == 'x' || form[i] == 'o' ? !strchr(allowed, text[i]) : text[i] != form[i])
            return false;
    }
    return true;
}

static int store_text(struct doc *doc, const yaml_node_t *node, const struct key *key,
                      const char *text, char *to)
{
    if (strlen(text) >= key->room)
        return fail(doc, node, "the value is too long", text);
    if (key->words) {
        char padded[200];
        (void)snprintf(padded, sizeof padded, " %s ", text);
        if (!*text || !strstr(key->words, padded))
            return err_set(doc->err, EINVAL, "line %zu: %s is '%.40s', allowed are%s",
                           node->start_mark.line + 1, key->name, text, key->words);
    }
    /* names become parts of paths and of lines */
    if (key->take == TAKE_TEXT && strcmp(key->name, "description") != 0 &&
        (strstr(text, "..") || strpbrk(text, " \"\\=") || text[0] == '/' ||
         (strcmp(key->name, "path") != 0 && strchr(text, '/'))))
        return fail(doc, node, "not a name", text);
    if (strcmp(key->name, "driver") == 0 && strcmp(text, "none") == 0)
        text = "";
    (void)snprintf(to, key->room, "%s", text);
    return 0;
}

static int store_number(struct doc *doc, const yaml_node_t *node, const struct key *key,
                        const char *text, void *to)
{
    struct err ignored = ERR_INIT;
    uint64_t v = 0;
    if (key->take == TAKE_INT && strcmp(text, "-1") == 0) {
        *(int *)to = -1;
        return 0;
    }
    uint64_t max = key->take == TAKE_INT ? 4095 : key->take == TAKE_HEX16 ? 0xffff : 0xffffff;
    if (parse_u64(text, max, &v, &ignored) < 0)
        return fail(doc, node, "not a number in range", text);
    if (key->take == TAKE_INT)
        *(int *)to = (int)v;
    else if (key->take == TAKE_HEX16)
        *(uint16_t *)to = (uint16_t)v;
    else
        *(uint32_t *)to = (uint32_t)v;
    return 0;
}

static int store(struct doc *doc, const yaml_node_t *node, const struct key *key, void *base)
{
    const char *text = text_of(doc, node);
    if (!text)
        return -EINVAL;
    char *to = (char *)base + key->at;
    switch (key->take) {
    case TAKE_BDF:
        if (!profile_bdf_ok(text))
            return fail(doc, node, "not a PCI address like \"0000:18:00.0\"", text);
        return store_text(doc, node, key, text, to);
    case TAKE_TEXT:
        return store_text(doc, node, key, text, to);
    case TAKE_BOOL:
    case TAKE_NOT:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return fail(doc, node, "true or false is wanted", text);
        *(bool *)to = (strcmp(text, "true") == 0) == (key->take == TAKE_BOOL);
        return 0;
    default:
        return store_number(doc, node, key, text, to);
    }
}

static const struct key *find_key(const struct key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static yaml_node_t *node_at(struct doc *doc, int index)
{
    return yaml_document_get_node(&doc->yaml, index);
}

/* default place: a root port of its own, one bus number below */
static void default_path(struct profile_device *dev)
{
    unsigned long domain = strtoul(dev->bdf, NULL, 16), bus = strtoul(dev->bdf + 5, NULL, 16);
    unsigned long up = bus > 0 ? bus - 1 : 0;
    (void)snprintf(dev->path, sizeof dev->path, "pci%04lx:%02lx/%04lx:%02lx:01.0", domain, up,
                   domain, up);
}

/* "pciDDDD:BB" and then bridges */
static bool path_ok(const char *path)
{
    char copy[96];
    (void)snprintf(copy, sizeof copy, "%s", path);
    char *save = NULL, *part = strtok_r(copy, "/", &save);
    if (!part || strlen(part) != 10 || strncmp(part, "pci", 3) != 0 || part[7] != ':')
        return false;
    while ((part = strtok_r(NULL, "/", &save)))
        if (!profile_bdf_ok(part))
            return false;
    return !strstr(path, "//");
}

static int check_device(struct doc *doc, const yaml_node_t *node, struct profile *p,
                        struct profile_device *dev)
{
    if (!*dev->bdf || !*dev->model)
        return fail(doc, node, "a device needs bdf and model", NULL);
    if (!*dev->path)
        default_path(dev);
    if (!path_ok(dev->path))
        return fail(doc, node, "path is not pciDDDD:BB/BRIDGE…", dev->path);
    if ((strcmp(dev->model, "vf") == 0) != (*dev->physfn != '\0'))
        return fail(doc, node, "physfn belongs to model vf and to no other", dev->bdf);
    if (strcmp(dev->model, "other") == 0 && dev->vendor_id == 0)
        return fail(doc, node, "model other needs vendor, device and class", dev->bdf);
    for (struct profile_device *d = p->devices; d < dev; d++)
        if (strcmp(d->bdf, dev->bdf) == 0 || strstr(dev->path, d->bdf) || strstr(d->path, dev->bdf))
            return fail(doc, node, "this address is taken", dev->bdf);
    return 0;
}

static int take_device(struct doc *doc, yaml_node_t *node, struct profile *p, const char *driver)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(doc, node, "a device is a mapping of bdf, model, …", NULL);
    if (p->n_devices == PROFILE_MAX_DEVICES)
        return fail(doc, node, "more than 64 devices", NULL);
    struct profile_device *dev = &p->devices[p->n_devices];
    *dev = (struct profile_device){.numa = -1, .group = -1, .mode = "off"};
    (void)snprintf(dev->driver, sizeof dev->driver, "%s", driver);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const char *name = text_of(doc, node_at(doc, pair->key));
        if (!name)
            return -EINVAL;
        const struct key *key = find_key(device_keys, ARRAY_LEN(device_keys), name);
        if (!key)
            return fail(doc, node_at(doc, pair->key), "unknown key of a device", name);
        int r = store(doc, node_at(doc, pair->value), key, dev);
        if (r < 0)
            return r;
    }
    int r = check_device(doc, node, p, dev);
    if (r == 0)
        p->n_devices++;
    return r;
}

static int take_delays(struct doc *doc, yaml_node_t *node, struct profile *p)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(doc, node, "delays is a mapping of name: milliseconds", NULL);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        struct err ignored = ERR_INIT;
        uint64_t ms = 0;
        yaml_node_t *key = node_at(doc, pair->key);
        const char *name = text_of(doc, key);
        const char *value = name ? text_of(doc, node_at(doc, pair->value)) : NULL;
        if (!value)
            return -EINVAL;
        if (p->n_delays == PROFILE_MAX_DELAYS || strlen(name) >= sizeof p->delays[0].name)
            return fail(doc, key, "not a delay", name);
        if (parse_u64(value, 3600000, &ms, &ignored) < 0)
            return fail(doc, key, "milliseconds are wanted for", name);
        struct profile_delay *d = &p->delays[p->n_delays++];
        (void)snprintf(d->name, sizeof d->name, "%s", name);
        d->ms = (uint32_t)ms;
    }
    return 0;
}

static int take_devices(struct doc *doc, yaml_node_t *list, struct profile *p, const char *driver)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return fail(doc, list, "devices is a list", NULL);
    for (yaml_node_item_t *item = list->data.sequence.items.start;
         item < list->data.sequence.items.top; item++) {
        int r = take_device(doc, node_at(doc, *item), p, driver);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_top(struct doc *doc, yaml_node_t *root, struct profile *p)
{
    struct profile_device dflt = {0};
    yaml_node_t *devices = NULL;
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(doc->err, EINVAL, "a profile is a mapping with the key devices");
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++) {
        yaml_node_t *value = node_at(doc, pair->value);
        const char *name = text_of(doc, node_at(doc, pair->key));
        if (!name)
            return -EINVAL;
        const struct key *key = find_key(top_keys, ARRAY_LEN(top_keys), name);
        int r = 0;
        if (key)
            r = store(doc, value, key, p);
        else if (strcmp(name, "driver") == 0)
            r = store(doc, value, find_key(device_keys, ARRAY_LEN(device_keys), name), &dflt);
        else if (strcmp(name, "delays") == 0)
            r = take_delays(doc, value, p);
        else if (strcmp(name, "devices") == 0)
            devices = value;
        else
            r = fail(doc, node_at(doc, pair->key), "unknown key", name);
        if (r < 0)
            return r;
    }
    if (!devices)
        return err_set(doc->err, EINVAL, "the profile has no devices");
    return take_devices(doc, devices, p, dflt.driver);
}

int profile_parse(const char *text, size_t len, struct profile *ret, struct err *err)
{
    if (len > PROFILE_MAX_BYTES)
        return err_set(err, E2BIG, "a profile of %zu bytes: at most %zu", len, PROFILE_MAX_BYTES);
    yaml_parser_t parser;
    struct doc doc = {.err = err};
    if (!yaml_parser_initialize(&parser))
        return err_set(err, ENOMEM, "libyaml could not start");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (!yaml_parser_load(&parser, &doc.yaml)) {
        int r =
            err_set(err, EINVAL, "line %zu, column %zu: %s", parser.problem_mark.line + 1,
                    parser.problem_mark.column + 1, parser.problem ? parser.problem : "not YAML");
        yaml_parser_delete(&parser);
        return r;
    }
    AUTO_FREE struct profile *p = xcalloc(1, sizeof *p);
    *p = (struct profile){.tee = "snp",
                          .tee_enabled = true,
                          .lockdown = "none",
                          .vfio_loaded = true,
                          .iommu = true,
                          .idle_d3 = true};
    int r = take_top(&doc, yaml_document_get_root_node(&doc.yaml), p);
    yaml_document_delete(&doc.yaml);
    yaml_parser_delete(&parser);
    if (r == 0)
        *ret = *p;
    return r;
}

/* beside the program when built, else where it was installed */
static int find_profile(const char *name, char *ret, size_t room)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    const char *dirs[] = {CCN_PROFILE_BUILD_DIR, self};
    const char *below[] = {"", "/../share/ccnode/profiles"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        (void)snprintf(ret, room, "%s%s/%s.yaml", dirs[i], below[i], name);
        if (access(ret, R_OK) == 0)
            return 0;
    }
    return -ENOENT;
}

int profile_load(const char *name, struct profile *ret, struct err *err)
{
    char path[PATH_MAX + 64];
    if (strchr(name, '/') || strchr(name, '.'))
        (void)snprintf(path, sizeof path, "%s", name);
    else if (find_profile(name, path, sizeof path) < 0)
        return err_set(err, ENOENT,
                       "no profile '%.60s': give a file, or one of h100-pcie, hgx-h100, "
                       "hgx-b200, rtx-pro-6000, mixed",
                       name);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open profile %s", path);
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    int r = fs_read_fd(fd, path, PROFILE_MAX_BYTES, &text, &len, err);
    if (r == 0)
        r = profile_parse(text, len, ret, err);
    return r < 0 ? err_wrap(err, r, "profile %s", path) : 0;
}
