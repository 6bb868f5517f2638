#include "node-agent/last_node.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/auto.h"
#include "base/fs.h"

#define FILE_NAME "last-node.json"
#define MAX_BYTES (64 * 1024)
/* As an annotation of device modes may be, and one byte: what is longer is kept cut, so that it is still too long and
 * therefore told and not obeyed. Without it the device would fall back to its default mode. */
#define MAX_VALUE (16 * 1024 + 1)
#define OTHER_ORDERS                                                                               \
    3 /* mode, workload, device modes: room is kept for them whatever else is there */

static bool is_order(const char *key)
{
    return strcmp(key, LABEL_MODE) == 0 || strcmp(key, LABEL_WORKLOAD) == 0 ||
           strcmp(key, ANNOTATION_DEVICE_MODES) == 0 ||
           strncmp(key, LABEL_DEPLOY_PREFIX, strlen(LABEL_DEPLOY_PREFIX)) == 0;
}

static void clear_pairs(struct last_pair *pairs, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        free(pairs[i].key);
        free(pairs[i].value);
    }
    *n = 0;
}

static bool fits(size_t n, const char *key)
{
    bool of_operator = strncmp(key, LABEL_DEPLOY_PREFIX, strlen(LABEL_DEPLOY_PREFIX)) == 0;
    return n < LAST_NODE_MAX_PAIRS - (of_operator ? OTHER_ORDERS : 0);
}

static bool add_pair(struct last_pair *pairs, size_t *n, const char *key, const char *value)
{
    if (!is_order(key) || !fits(*n, key))
        return false;
    pairs[*n] = (struct last_pair){xstrdup(key), xstrndup(value, MAX_VALUE)};
    (*n)++;
    return true;
}

static bool replace(struct last_pair *pairs, size_t *n, const struct last_source *from,
                    size_t n_from)
{
    size_t at = 0;
    bool same = true;
    for (size_t i = 0; i < n_from; i++) {
        if (!is_order(from[i].key) || !fits(at, from[i].key))
            continue;
        same = same && at < *n && strcmp(pairs[at].key, from[i].key) == 0 &&
               strncmp(pairs[at].value, from[i].value, MAX_VALUE) == 0;
        at++;
    }
    if (same && at == *n)
        return false;
    clear_pairs(pairs, n);
    for (size_t i = 0; i < n_from; i++)
        (void)add_pair(pairs, n, from[i].key, from[i].value);
    return true;
}

bool last_node_set(struct last_node *last, const char *name, const struct last_source *labels,
                   size_t n_labels, const struct last_source *annotations, size_t n_annotations)
{
    bool changed = !last->known;
    last->known = true;
    (void)snprintf(last->name, sizeof last->name, "%s", name);
    changed = replace(last->labels, &last->n_labels, labels, n_labels) || changed;
    changed =
        replace(last->annotations, &last->n_annotations, annotations, n_annotations) || changed;
    return changed;
}

bool last_node_set_policy(struct last_node *last, const char *mode)
{
    char kept[LAST_NODE_POLICY_SIZE];
    (void)snprintf(kept, sizeof kept, "%.64s", mode);
    if (last->policy_known && strcmp(last->policy, kept) == 0)
        return false;
    last->policy_known = true;
    memcpy(last->policy, kept, sizeof kept);
    return true;
}

const char *last_node_label(const struct last_node *last, const char *key)
{
    for (size_t i = 0; i < last->n_labels; i++) {
        if (strcmp(last->labels[i].key, key) == 0)
            return last->labels[i].value;
    }
    return NULL;
}

void last_node_done(struct last_node *last)
{
    clear_pairs(last->labels, &last->n_labels);
    clear_pairs(last->annotations, &last->n_annotations);
    last->known = last->policy_known = false;
}

static int parse_pairs(struct json_object *root, const char *member, struct last_pair *pairs,
                       size_t *n, struct err *err)
{
    struct json_object *object;
    if (!json_object_object_get_ex(root, member, &object) ||
        !json_object_is_type(object, json_type_object))
        return err_set(err, EINVAL, "%s is missing", member);
    json_object_object_foreach(object, key, value)
    {
        if (!json_object_is_type(value, json_type_string) ||
            strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value) ||
            !add_pair(pairs, n, key, json_object_get_string(value)))
            return err_set(err, EINVAL, "%s has a member that is no order", member);
    }
    return 0;
}

/* The file of an older agent lacks it: the policy is not known then. */
static int parse_policy(struct json_object *root, struct last_node *last, struct err *err)
{
    struct json_object *policy;
    if (!json_object_object_get_ex(root, "cluster_policy_mode", &policy))
        return 0;
    if (!json_object_is_type(policy, json_type_string) ||
        json_object_get_string_len(policy) >= LAST_NODE_POLICY_SIZE ||
        strlen(json_object_get_string(policy)) != (size_t)json_object_get_string_len(policy))
        return err_set(err, EINVAL, "cluster_policy_mode is not a short text");
    (void)last_node_set_policy(last, json_object_get_string(policy));
    return 0;
}

int last_node_parse(const char *text, size_t len, const char *name, struct last_node *ret,
                    struct err *err)
{
    if (len > MAX_BYTES)
        return err_set(err, EFBIG, "%zu bytes are too many", len);
    struct json_tokener *tokener = json_tokener_new_ex(4);
    struct json_object *root = json_tokener_parse_ex(tokener, text, (int)len);
    json_tokener_free(tokener);
    struct json_object *node;
    struct last_node last = {0};
    int r = 0;
    if (!root || !json_object_is_type(root, json_type_object) ||
        !json_object_object_get_ex(root, "node", &node) ||
        !json_object_is_type(node, json_type_string))
        r = err_set(err, EINVAL, "truncated or not JSON");
    else if (strcmp(json_object_get_string(node), name) != 0)
        r = err_set(err, EINVAL, "it belongs to another node");
    if (r == 0)
        r = parse_pairs(root, "labels", last.labels, &last.n_labels, err);
    if (r == 0)
        r = parse_pairs(root, "annotations", last.annotations, &last.n_annotations, err);
    if (r == 0)
        r = parse_policy(root, &last, err);
    json_object_put(root);
    if (r < 0) {
        last_node_done(&last);
        return r;
    }
    last.known = true;
    (void)snprintf(last.name, sizeof last.name, "%s", name);
    last_node_done(ret);
    *ret = last;
    return 0;
}

int last_node_load(const struct host *host, const char *dir, const char *name,
                   struct last_node *ret, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/" FILE_NAME, dir);
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = fs_read(host, path, MAX_BYTES, &text, &len, err);
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = last_node_parse(text, len, name, ret, err);
    return r < 0 ? err_wrap(err, r, "%s is not used", path) : 1;
}

static void add_pairs(struct json_object *root, const char *member, const struct last_pair *pairs,
                      size_t n)
{
    struct json_object *object = json_object_new_object();
    for (size_t i = 0; i < n; i++)
        (void)json_object_object_add(object, pairs[i].key, json_object_new_string(pairs[i].value));
    (void)json_object_object_add(root, member, object);
}

int last_node_save(const struct host *host, const char *dir, const struct last_node *last,
                   struct err *err)
{
    struct json_object *root = json_object_new_object();
    (void)json_object_object_add(root, "node", json_object_new_string(last->name));
    add_pairs(root, "labels", last->labels, last->n_labels);
    add_pairs(root, "annotations", last->annotations, last->n_annotations);
    if (last->policy_known)
        (void)json_object_object_add(root, "cluster_policy_mode",
                                     json_object_new_string(last->policy));
    const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
    int r = fs_mkdirs(host, dir, err);
    if (r == 0)
        r = fs_replace(host, dir, FILE_NAME, text, strlen(text), 0600, false, err);
    json_object_put(root);
    return r;
}
