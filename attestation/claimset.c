#include "attestation/claimset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/b64.h"
#include "attestation/jsonin.h"
#include "attestation/trail.h"
#include "base/auto.h"

#define CLAIMS_MAX (4u << 20)

void claimset_done(struct claimset *set)
{
    json_object_put(set->flat);
    json_object_put(set->overall);
    json_object_put(set->submods);
    *set = (struct claimset){0};
}

static struct json_object *submods(struct claimset *set)
{
    if (!set->submods)
        set->submods = json_object_new_object();
    return set->submods;
}

static void set_overall(struct claimset *set, struct json_object *claims)
{
    json_object_put(set->overall);
    set->overall = json_object_get(claims);
}

/* payload of a compact token, unverified */
static int payload(struct json_object *token, struct json_object **ret, struct err *err)
{
    const char *text =
        json_object_is_type(token, json_type_string) ? json_object_get_string(token) : NULL;
    const char *first = text ? strchr(text, '.') : NULL;
    const char *second = first ? strchr(first + 1, '.') : NULL;
    struct att_bytes bytes = {0};
    if (!second)
        return err_set(err, EINVAL, "a token of three parts is expected");
    int r = b64url_decode(first + 1, (size_t)(second - first - 1), CLAIMS_MAX, &bytes, err);
    if (r == 0)
        r = jsonin_parse((const char *)bytes.data, bytes.len, CLAIMS_MAX, ret, err);
    att_bytes_done(&bytes);
    return r;
}

/* [["JWT", overall], {name: token, …}] */
static int add_detached(struct claimset *set, struct json_object *list, struct err *err)
{
    struct json_object *pair = json_object_array_get_idx(list, 0);
    struct json_object *tokens = json_object_array_get_idx(list, 1), *claims = NULL;
    int r = payload(json_object_array_get_idx(pair, 1), &claims, err);
    if (r < 0)
        return r;
    set_overall(set, claims);
    json_object_put(claims);
    if (!json_object_is_type(tokens, json_type_object))
        return err_set(err, EINVAL, "a detached EAT has an object of tokens");
    json_object_object_foreach(tokens, name, token)
    {
        claims = NULL;
        r = payload(token, &claims, err);
        if (r < 0)
            return err_wrap(err, r, "token %s", name);
        json_object_object_add(submods(set), name, claims);
    }
    return 0;
}

static bool all_objects(struct json_object *object)
{
    json_object_object_foreach(object, name, member)
    {
        (void)name;
        if (!json_object_is_type(member, json_type_object))
            return false;
    }
    return json_object_object_length(object) > 0;
}

static void add_list(struct claimset *set, struct json_object *list)
{
    char name[32];
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *claims = json_object_array_get_idx(list, i);
        (void)snprintf(name, sizeof name, "DEVICE-%zu", i);
        if (json_object_is_type(claims, json_type_object))
            json_object_object_add(submods(set), name, json_object_get(claims));
    }
}

static bool is_detached_eat(struct json_object *root)
{
    struct json_object *pair =
        json_object_is_type(root, json_type_array) ? json_object_array_get_idx(root, 0) : NULL;
    return json_object_is_type(pair, json_type_array) && json_object_array_length(root) == 2 &&
           json_object_array_length(pair) == 2;
}

/* one of several names a member goes by */
static struct json_object *named(struct json_object *root, const char *const *names)
{
    struct json_object *member = NULL;
    for (size_t i = 0; !member && names[i]; i++)
        member = jsonin_member(root, names[i]);
    return member;
}

static int add_value(struct claimset *set, struct json_object *root, struct err *err);

/* {"overall-claims": …, "detached-claims": …}, as a policy itself calls the two. Return: 1 when it was one. */
static int add_pair(struct claimset *set, struct json_object *root, struct err *err)
{
    static const char *const overall[] = {"overall-claims", "overall_claims", "overall", NULL};
    static const char *const detached[] = {"detached-claims", "detached_claims", "detached", NULL};
    struct json_object *first = named(root, overall), *second = named(root, detached);
    if (!json_object_is_type(first, json_type_object) || !second)
        return 0;
    set_overall(set, first);
    int r = add_value(set, second, err);
    return r < 0 ? r : 1;
}

static int add_value(struct claimset *set, struct json_object *root, struct err *err)
{
    if (is_detached_eat(root))
        return add_detached(set, root, err);
    if (json_object_is_type(root, json_type_array)) {
        add_list(set, root);
        return 0;
    }
    if (!json_object_is_type(root, json_type_object))
        return err_set(err, EINVAL, "claims are an object or a list");
    if (jsonin_member(root, "result_code")) { /* our own output */
        struct json_object *eat = jsonin_member(root, "detached_eat");
        struct json_object *flat = jsonin_member(root, "claims_2023");
        if (flat && !set->flat)
            set->flat = json_object_get(flat);
        if (is_detached_eat(eat))
            return add_detached(set, eat, err);
        set_overall(set, jsonin_member(root, "overall_claims"));
        if (jsonin_member(root, "claims"))
            return add_value(set, jsonin_member(root, "claims"), err);
        return 0;
    }
    int pair = add_pair(set, root, err);
    if (pair)
        return pair < 0 ? pair : 0;
    if (jsonin_member(root, "submods") || jsonin_member(root, "x-nvidia-overall-att-result")) {
        set_overall(set, root);
        if (!set->flat)
            set->flat = json_object_get(root);
        return 0;
    }
    if (all_objects(root)) {
        json_object_object_foreach(root, name, claims)
        {
            json_object_object_add(submods(set), name, json_object_get(claims));
        }
        return 0;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "DEVICE-%d", json_object_object_length(submods(set)));
    json_object_object_add(submods(set), name, json_object_get(root));
    json_object_put(set->flat);
    set->flat = json_object_get(root);
    return 0;
}

int claimset_add(struct claimset *set, const char *text, size_t len, struct err *err)
{
    AUTO_JSON struct json_object *root = NULL;
    int r = jsonin_parse_claims(text, len, CLAIMS_MAX, &root, err);
    return r < 0 ? r : add_value(set, root, err);
}

int claimset_of_verdict(struct claimset *set, const struct att_verdict *verdict, struct err *err)
{
    struct json_object *devices = verdict->claims[ATT_CLAIMS_V3];
    if (!devices || !verdict->claims[ATT_CLAIMS_OVERALL])
        return err_set(err, EINVAL, "the verdict has no claims");
    set->overall = json_object_get(verdict->claims[ATT_CLAIMS_OVERALL]);
    set->flat = json_object_get(verdict->claims[ATT_CLAIMS_2023]);
    for (size_t i = 0; i < json_object_array_length(devices); i++)
        json_object_object_add(submods(set),
                               json_object_get_string(json_object_array_get_idx(verdict->names, i)),
                               json_object_get(json_object_array_get_idx(devices, i)));
    return 0;
}
