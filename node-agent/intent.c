#include "node-agent/intent.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/selectors.h"
#include "node-agent/managed.h"

#define ANNOTATION_MAX_BYTES (16 * 1024)
#define ALLOWED_MODES "on, off, devtools, ppcie"

/* A mode asked for one device by name, before the rules of the whole node are applied. */
struct request {
    enum cc_mode mode;
    const char *source; /* NULL = none */
    bool exact;         /* by its full BDF, which wins over other selectors */
    bool held;          /* asked for in a way that is not understood: stays as it is */
};

struct resolving {
    const struct config *config;
    const struct node_wish *node;
    const struct observed *observed;
    struct intent *ret;
    struct nv_device *devices; /* copies side by side, as selectors want them */
    struct request requests[NV_MAX_DEVICES];
};

/* A value from outside inside a message: printable, short. */
struct shown {
    char text[72];
};

static struct shown show(const char *text)
{
    struct shown s = {""};
    size_t n = 0;
    for (; *text && n + 8 < sizeof s.text; text++) {
        unsigned char c = (unsigned char)*text;
        int w = isprint(c) && c != '"' && c != '\\' ? snprintf(s.text + n, 8, "%c", c)
                                                    : snprintf(s.text + n, 8, "\\x%02x", c);
        n += (size_t)w;
    }
    if (*text)
        (void)snprintf(s.text + n, 4, "...");
    return s;
}

static void complain(struct intent *ret, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The first problem is told: it is what the operator has to mend first. */
static void complain(struct intent *ret, const char *reason, const char *fmt, ...)
{
    if (*ret->problem_reason)
        return;
    (void)snprintf(ret->problem_reason, sizeof ret->problem_reason, "%s", reason);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(ret->problem, sizeof ret->problem, fmt, ap);
    va_end(ap);
    for (char *p = ret->problem; *p; p++) {
        if (iscntrl((unsigned char)*p)) /* of a selector that an error quotes */
            *p = '?';
    }
}

static const char *find_value(const struct key_value *pairs, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(pairs[i].key, key) == 0)
            return pairs[i].value && *pairs[i].value ? pairs[i].value : NULL;
    }
    return NULL;
}

static const char *find_label(const struct node_wish *node, const char *key)
{
    return node->known ? find_value(node->labels, node->n_labels, key) : NULL;
}

/* Return: number of devices that @selector names, or negative. */
static int match(struct resolving *in, const char *selector, bool ret[static NV_MAX_DEVICES],
                 struct err *err)
{
    memset(ret, 0, NV_MAX_DEVICES * sizeof *ret);
    return selectors_match(selector, in->devices, in->observed->n, ret, err);
}

static void resolve_workload(struct resolving *in, enum workload *ret)
{
    const char *label = find_label(in->node, LABEL_WORKLOAD);
    *ret = in->config->default_workload;
    if (!label)
        return;
    if (strcmp(label, "vm-passthrough") == 0) {
        *ret = WORKLOAD_VM_PASSTHROUGH;
    } else if (strcmp(label, "container") == 0) {
        *ret = WORKLOAD_CONTAINER;
    } else {
        in->ret->hands_off = true;
        if (strcmp(label, "vm-vgpu") != 0)
            complain(in->ret, "InvalidWorkload",
                     "label " LABEL_WORKLOAD " has the value \"%s\", which is none of "
                     "vm-passthrough, container, vm-vgpu; the devices are left alone until it is "
                     "corrected: kubectl label node NAME --overwrite " LABEL_WORKLOAD
                     "=vm-passthrough",
                     show(label).text);
    }
}

static void mark_managed(struct resolving *in)
{
    bool managed[NV_MAX_DEVICES];
    struct err err = ERR_INIT;
    if (managed_mark(in->config, in->devices, in->observed->n, managed, &err) < 0)
        complain(in->ret, "InvalidDevices", "configuration: %s", err.msg);
    for (size_t d = 0; d < in->observed->n; d++)
        in->ret->devices[d].managed = managed[d];
}

/* Partitions are a preference only; what is wrong with one is told and changes nothing else. */
static void check_partitions(struct resolving *in)
{
    const struct config_map *partitions = &in->config->partitions;
    bool named[NV_MAX_DEVICES];
    for (size_t i = 0; i < partitions->n; i++) {
        struct err err = ERR_INIT;
        int r = match(in, partitions->pairs[i].key, named, &err);
        if (r < 0 && r != -ENODEV)
            complain(in->ret, "InvalidDevices",
                     "configuration: devicePlugin.partitions: %s; the entry is not used", err.msg);
    }
}

static void hold(struct request *request, const char *source)
{
    *request = (struct request){.mode = CC_MODE_UNKNOWN, .source = source, .held = true};
}

/* One entry "selector: mode" of the annotation or of devices.modes. */
static void request_one(struct resolving *in, const char *selector, const char *text,
                        const char *source, const char *reason)
{
    bool named[NV_MAX_DEVICES];
    struct err err = ERR_INIT;
    enum cc_mode mode = cc_mode_parse(text);
    int n = match(in, selector, named, &err);
    if (n <= 0)
        complain(in->ret, reason, "%s for device modes: \"%s\" names no device of this node%s%s",
                 source, show(selector).text, n < 0 ? ": " : "", n < 0 ? err.msg : "");
    else if (mode == CC_MODE_UNKNOWN)
        complain(in->ret, reason,
                 "%s for device modes: \"%s\" has the mode \"%s\", which is none of " ALLOWED_MODES
                 "; nothing is changed there",
                 source, show(selector).text, show(text).text);
    for (size_t d = 0; n > 0 && d < in->observed->n; d++) {
        struct request *r = &in->requests[d];
        bool exact = strcasecmp(selector, in->devices[d].bdf) == 0;
        if (!named[d] || (r->source == source && r->exact && !exact))
            continue;
        if (mode == CC_MODE_UNKNOWN) {
            hold(r, source);
        } else if (r->source == source && r->exact == exact && r->mode != mode) {
            complain(in->ret, reason,
                     "%s for device modes asks for both %s and %s for %s; name the device by its "
                     "full address to decide",
                     source, cc_mode_name(r->mode), cc_mode_name(mode), in->devices[d].bdf);
            hold(r, source);
        } else {
            *r = (struct request){.mode = mode, .source = source, .exact = exact};
        }
    }
}

static void request_by_annotation(struct resolving *in)
{
    static const char reason[] = "InvalidDeviceModes", source[] = "annotation";
    const struct node_wish *node = in->node;
    const char *text =
        node->known ? find_value(node->annotations, node->n_annotations, ANNOTATION_DEVICE_MODES)
                    : NULL;
    if (!text)
        return;
    size_t len = strnlen(text, ANNOTATION_MAX_BYTES + 1);
    struct json_tokener *tokener = json_tokener_new_ex(4);
    struct json_object *map = NULL;
    if (len <= ANNOTATION_MAX_BYTES) /* with its final zero, so that a bare word is complete too */
        map = json_tokener_parse_ex(tokener, text, (int)len + 1);
    bool whole = map && json_tokener_get_parse_end(tokener) >= len;
    json_tokener_free(tokener);
    if (!whole || !json_object_is_type(map, json_type_object) ||
        json_object_object_length(map) > NV_MAX_DEVICES) {
        complain(in->ret, reason,
                 "annotation " ANNOTATION_DEVICE_MODES
                 " is not a JSON object of at most %d entries "
                 "such as {\"0000:18:00.0\":\"on\"}: \"%s\"; nothing is changed",
                 NV_MAX_DEVICES, show(text).text);
        for (size_t d = 0; d < in->observed->n; d++)
            hold(&in->requests[d], source);
        json_object_put(map);
        return;
    }
    json_object_object_foreach(map, selector, value)
    {
        bool is_text = json_object_is_type(value, json_type_string);
        request_one(in, selector, is_text ? json_object_get_string(value) : "(not a string)",
                    source, reason);
    }
    json_object_put(map);
}

/* The ClusterPolicy's default goes before ours. Return: false = the modes are held. */
static bool policy_default(struct resolving *in, struct request *r)
{
    const char *policy = in->node->cluster_policy;
    if (policy && !*policy)
        return true;
    enum cc_mode mode = policy ? cc_mode_parse(policy) : CC_MODE_UNKNOWN;
    r->held = mode == CC_MODE_UNKNOWN;
    if (!r->held)
        r->mode = mode;
    else if (policy)
        complain(in->ret, "InvalidMode",
                 "spec.ccManager.defaultMode of the ClusterPolicy is \"%s\", which is none "
                 "of " ALLOWED_MODES
                 "; nothing is changed until it is corrected or the node has the "
                 "label " LABEL_MODE,
                 show(policy).text);
    return !r->held;
}

/* The mode of all devices that are not asked for by name. */
static struct request general_request(struct resolving *in, enum workload workload)
{
    const char *label = find_label(in->node, LABEL_MODE);
    if (label) {
        enum cc_mode mode = cc_mode_parse(label);
        if (mode != CC_MODE_UNKNOWN)
            return (struct request){.mode = mode, .source = "label"};
        complain(in->ret, "InvalidMode",
                 "label " LABEL_MODE " has the value \"%s\", which is none of " ALLOWED_MODES
                 "; nothing is changed until it is corrected: kubectl label node NAME "
                 "--overwrite " LABEL_MODE "=on",
                 show(label).text);
        return (struct request){.source = "label", .held = true};
    }
    struct request r = {.mode = in->config->default_mode, .source = "default"};
    if (in->node->known && !policy_default(in, &r))
        return r;
    /* Nobody asked for this node in particular: a mode that only confidential guests can use makes no sense on a
     * host that cannot start one. An explicit wish is honoured there (k8s-cc-manager does the same). */
    if (!in->observed->snp && !in->observed->tdx)
        r.mode = CC_MODE_OFF;
    /* A GPU that is handed back to the host keeps its mode unless somebody asks. */
    if (workload == WORKLOAD_CONTAINER)
        r = (struct request){.source = "default", .held = true};
    return r;
}

static bool is_gpu(const struct resolving *in, size_t d)
{
    return in->devices[d].kind == NV_KIND_GPU;
}

/* Modes of the GPUs as asked, before ppcie and the switches are looked at. */
static void give_modes(struct resolving *in, const struct request *general)
{
    for (size_t d = 0; d < in->observed->n; d++) {
        struct device_intent *device = &in->ret->devices[d];
        const struct request *r = in->requests[d].source ? &in->requests[d] : general;
        if (!device->managed)
            continue;
        device->source = r->source;
        device->mode = r->held ? CC_MODE_UNKNOWN : r->mode;
    }
}

struct tally {
    size_t gpus, in_ppcie, unknown;
    enum cc_mode first;
    bool differ;
};

static struct tally count_gpus(const struct resolving *in)
{
    struct tally t = {0};
    for (size_t d = 0; d < in->observed->n; d++) {
        const struct device_intent *device = &in->ret->devices[d];
        if (!device->managed || !is_gpu(in, d))
            continue;
        if (t.gpus++ == 0)
            t.first = device->mode;
        t.differ = t.differ || device->mode != t.first;
        t.in_ppcie += device->mode == CC_MODE_PPCIE;
        t.unknown += device->mode == CC_MODE_UNKNOWN;
    }
    return t;
}

static void hold_all(struct resolving *in)
{
    for (size_t d = 0; d < in->observed->n; d++)
        in->ret->devices[d].mode = CC_MODE_UNKNOWN;
}

/* Switches follow the GPUs: ppcie when all are wanted there, off when none is, as they are when that is not known. */
static void give_switches(struct resolving *in, const struct tally *gpus)
{
    for (size_t d = 0; d < in->observed->n; d++) {
        struct device_intent *device = &in->ret->devices[d];
        if (!device->managed || is_gpu(in, d))
            continue;
        enum cc_mode follow = CC_MODE_OFF;
        if (gpus->unknown > 0)
            follow = CC_MODE_UNKNOWN;
        else if (gpus->gpus > 0 ? gpus->in_ppcie > 0 : device->mode == CC_MODE_PPCIE)
            follow = CC_MODE_PPCIE;
        const struct request *asked = &in->requests[d];
        if (asked->source && !asked->held && gpus->gpus > 0 && asked->mode != follow &&
            follow != CC_MODE_UNKNOWN) {
            complain(in->ret, "InvalidDeviceModes",
                     "NVSwitch %s is asked to be %s, but with its GPUs as wanted it must be %s; "
                     "nothing is changed",
                     in->devices[d].bdf, cc_mode_name(asked->mode), cc_mode_name(follow));
            hold_all(in);
            return;
        }
        if (asked->held && asked->source)
            follow = CC_MODE_UNKNOWN;
        device->mode = follow;
    }
}

bool intent_belongs_to_fabric(const struct nv_device *dev)
{
    return dev->kind == NV_KIND_NVSWITCH || strcmp(dev->chip, "gh100") == 0;
}

const struct nv_device *intent_find_outsider(const struct intent *intent,
                                             const struct observed *observed)
{
    for (size_t d = 0; d < observed->n; d++) {
        if (!intent->devices[d].managed && intent_belongs_to_fabric(&observed->devices[d].dev))
            return &observed->devices[d].dev;
    }
    return NULL;
}

static bool any_in_ppcie(const struct intent *intent)
{
    bool any = false;
    for (size_t d = 0; d < intent->n; d++)
        any = any || intent->devices[d].mode == CC_MODE_PPCIE;
    return any;
}

static void refuse_part_of_fabric(struct resolving *in)
{
    const struct nv_device *outsider = intent_find_outsider(in->ret, in->observed);
    if (!outsider || !any_in_ppcie(in->ret))
        return;
    complain(
        in->ret, "FabricNotManaged",
        "ppcie concerns every GPU and NVSwitch of the node, and %s (%s) is not managed; take it "
        "into devices.include and out of devices.exclude, or ask for another mode; nothing is "
        "changed",
        outsider->bdf, *outsider->name ? outsider->name : nv_kind_name(outsider->kind));
    hold_all(in);
}

static void resolve_modes(struct resolving *in, enum workload workload)
{
    struct intent *ret = in->ret;
    for (size_t i = 0; i < in->config->modes.n; i++)
        request_one(in, in->config->modes.pairs[i].key, in->config->modes.pairs[i].value,
                    "configuration", "InvalidDeviceModes");
    request_by_annotation(in);
    struct request general = general_request(in, workload);
    give_modes(in, &general);
    struct tally gpus = count_gpus(in);
    if (gpus.in_ppcie > 0 && gpus.in_ppcie < gpus.gpus) {
        complain(
            ret, "InvalidDeviceModes",
            "ppcie concerns every GPU and NVSwitch of the node and is asked for only %zu of %zu "
            "GPUs; nothing is changed",
            gpus.in_ppcie, gpus.gpus);
        hold_all(in);
    } else {
        give_switches(in, &gpus);
        refuse_part_of_fabric(in);
    }
    gpus = count_gpus(in);
    ret->mixed = gpus.differ;
    ret->mode = gpus.differ ? CC_MODE_UNKNOWN : gpus.first;
}

static void resolve_bindings(struct resolving *in, enum workload workload)
{
    struct intent *ret = in->ret;
    bool ours = in->config->vfio_manage && !ret->stand_back.vfio && !ret->hands_off;
    enum binding wish = workload == WORKLOAD_CONTAINER ? BINDING_RELEASE : BINDING_VFIO;
    for (size_t d = 0; d < ret->n; d++)
        ret->devices[d].binding = ours && ret->devices[d].managed ? wish : BINDING_LEAVE;
    ret->serve = !ret->hands_off && workload == WORKLOAD_VM_PASSTHROUGH;
}

void intent_resolve(const struct config *config, const struct node_wish *node,
                    const struct observed *observed, struct intent *ret)
{
    *ret = (struct intent){.n = observed->n, .stand_back = node->operands};
    struct resolving in = {
        .config = config,
        .node = node,
        .observed = observed,
        .ret = ret,
        .devices = xcalloc(observed->n + 1, sizeof *in.devices),
    };
    for (size_t d = 0; d < observed->n; d++) {
        in.devices[d] = observed->devices[d].dev;
        ret->devices[d].source = "";
    }
    enum workload workload;
    resolve_workload(&in, &workload);
    if (!ret->hands_off) {
        mark_managed(&in);
        resolve_modes(&in, workload);
        check_partitions(&in);
    }
    if (ret->stand_back.mode || !config->mode_manage) {
        hold_all(&in);
        ret->mode = CC_MODE_UNKNOWN;
    }
    resolve_bindings(&in, workload);
    free(in.devices);
}
