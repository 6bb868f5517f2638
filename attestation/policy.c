/* JSON policies. REF-A 5.7. A policy that could approve nothing in particular is a mistake, not an approval. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attestation/claimset.h"
#include "attestation/jsonin.h"
#include "attestation/policy.h"
#include "base/auto.h"

#define POLICY_MAX (1u << 20)

struct policy {
    struct json_object *root; /* owned */
    bool flat;                /* 1.0 */
    struct json_object *rules, *overall, *detached;
};

static bool refuse(struct att_verdict *v, const char *what, const char *why)
{
    return trail_fail(v, ATT_ERR_POLICY, "policy.form", "%.80s%s", what, why);
}

/* a rule set must be an object that demands something */
static bool usable(struct json_object *rules, const char *what, struct att_verdict *v)
{
    if (!json_object_is_type(rules, json_type_object))
        return refuse(v, what, " is no object");
    if (json_object_object_length(rules) == 0)
        return refuse(v, what, " is empty: it would approve everything");
    return true;
}

static bool only_members(struct json_object *object, const char *const *allowed,
                         struct att_verdict *v)
{
    json_object_object_foreach(object, name, member)
    {
        bool known = false;
        (void)member;
        for (size_t i = 0; allowed[i]; i++)
            known |= strcmp(name, allowed[i]) == 0;
        if (!known)
            return refuse(v, name, " is an unknown member");
    }
    return true;
}

/* "1.0", "2.0", "3.0", "4.0": digits, dot, digits */
static bool version_of(const char *text, unsigned *major)
{
    unsigned minor;
    char rest;
    return text && sscanf(text, "%2u.%2u%c", major, &minor, &rest) == 2; /* NOLINT(cert-err34-c) */
}

static bool looks_like_rego(const struct att_text *text)
{
    size_t n = strlen(text->name);
    if (n > 5 && strcmp(text->name + n - 5, ".rego") == 0)
        return true;
    static const char word[] = "package ";
    return memmem(text->text, text->len < 4096 ? text->len : 4096, word, sizeof word - 1) &&
           text->len && text->text[0] != '{';
}

static bool read_detached(struct policy *p, struct att_verdict *v)
{
    static const char *const members[] = {"type", "overall-claims", "detached-claims", NULL};
    const char *type = jsonin_string(p->rules, "type");
    if (!only_members(p->rules, members, v))
        return false;
    if (!type || strcmp(type, "JWT") != 0)
        return refuse(v, "authorization-rules", ": type must be JWT");
    p->overall = jsonin_member(p->rules, "overall-claims");
    p->detached = jsonin_member(p->rules, "detached-claims");
    return usable(p->overall, "overall-claims", v) && usable(p->detached, "detached-claims", v);
}

static bool read_policy(const struct att_text *text, struct policy *p, struct att_verdict *v)
{
    static const char *const members[] = {"version", "authorization-rules", NULL};
    struct err err = ERR_INIT;
    unsigned major = 0;
    if (looks_like_rego(text))
        return trail_fail(v, ATT_ERR_POLICY, "policy.rego",
                          "Rego is not evaluated here. Use --policy builtin for the SDK's default "
                          "policy, or write the conditions as a JSON policy of version 4.0 "
                          "(docs/attestation.md shows both)");
    if (jsonin_parse(text->text, text->len, POLICY_MAX, &p->root, &err) < 0)
        return refuse(v, "", err.msg);
    if (!json_object_is_type(p->root, json_type_object))
        return refuse(v, "", "a policy is an object");
    if (!only_members(p->root, members, v))
        return false;
    const char *version = jsonin_string(p->root, "version");
    if (!version_of(version, &major) || major < 1 || major > 4)
        return refuse(v, version ? version : "version", " is unknown, 1.0 to 4.0 are known");
    p->rules = jsonin_member(p->root, "authorization-rules");
    p->flat = major == 1;
    return usable(p->rules, "authorization-rules", v) && (p->flat || read_detached(p, v));
}

/* equal in type and value; of an object only the listed members when @listed */
static bool equal(struct json_object *want, struct json_object *have, bool listed)
{
    if (json_object_get_type(want) != json_object_get_type(have))
        return false;
    if (!listed || !json_object_is_type(want, json_type_object))
        return json_object_equal(want, have);
    json_object_object_foreach(want, name, member)
    {
        struct json_object *other = NULL;
        if (!json_object_object_get_ex(have, name, &other) || !equal(member, other, true))
            return false;
    }
    return true;
}

/* one claim against one rule; 2023's log said availability where the code said available */
static bool find_claim(struct json_object *claims, const char *name, struct json_object **ret)
{
    if (json_object_object_get_ex(claims, name, ret))
        return true;
    return strcmp(name, "x-nv-gpu-availability") == 0 &&
           json_object_object_get_ex(claims, "x-nv-gpu-available", ret);
}

/* as people read it: without escaped slashes */
static const char *shown(struct json_object *value)
{
    return json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE);
}

static bool apply(struct json_object *rules, struct json_object *claims, const char *subject,
                  bool listed, struct att_verdict *v)
{
    bool ok = true;
    trail_subject(v, "%s", subject);
    json_object_object_foreach(rules, name, want)
    {
        struct json_object *have = NULL;
        bool there = find_claim(claims, name, &have);
        if (there && equal(want, have, listed))
            continue;
        ok = trail_fail(v, ATT_ERR_POLICY, "policy.rule", "%s: %s%.80s, the policy wants %.80s",
                        name, there ? "it is " : "the claim is missing", there ? shown(have) : "",
                        shown(want));
    }
    if (ok)
        (void)trail_pass(v, "policy.rules", "%d rules hold", json_object_object_length(rules));
    trail_subject(v, "%s", "");
    return ok;
}

static bool apply_detached(const struct policy *p, struct json_object *submods,
                           struct att_verdict *v)
{
    if (!submods || json_object_object_length(submods) == 0)
        return trail_fail(v, ATT_ERR_POLICY, "policy.submodules",
                          "no device's claims to appraise: nothing is approved");
    bool ok = true;
    json_object_object_foreach(submods, name, claims)
    {
        ok &= apply(p->detached, claims, name, true, v);
    }
    return ok;
}

static bool run(const struct att_text *text, const struct claimset *set, struct att_verdict *v)
{
    struct policy p = {0};
    bool ok = read_policy(text, &p, v);
    if (ok && p.flat)
        ok = set->flat ? apply(p.rules, set->flat, "", false, v)
                       : trail_fail(v, ATT_ERR_POLICY, "policy.claims",
                                    "a policy of version 1.0 needs flat claims");
    else if (ok) {
        bool overall = apply(p.overall, set->overall, "overall", true, v);
        ok = apply_detached(&p, set->submods, v) && overall;
    }
    json_object_put(p.root);
    return ok;
}

int att_check_policy(const struct att_text *policy, const struct att_text *claims, size_t n_claims,
                     struct att_verdict **ret, struct err *err)
{
    struct att_verdict *v = trail_new();
    struct claimset set = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < n_claims; i++)
        r = claimset_add(&set, claims[i].text, claims[i].len, err);
    if (r < 0)
        (void)trail_fail(v, ATT_ERR_JSON, "policy.claims", "%s", err->msg);
    else
        (void)run(policy, &set, v);
    claimset_done(&set);
    *ret = v;
    return 0;
}

/* Members that only some verifiers write count as true when absent (REF-A 5.2). */
static bool not_denied(struct json_object *chain, const char *name)
{
    struct json_object *member = NULL;
    return !json_object_object_get_ex(chain, name, &member) ||
           (json_object_is_type(member, json_type_boolean) && json_object_get_boolean(member));
}

static bool chain_good(struct json_object *chain)
{
    const char *status = jsonin_string(chain, "x-nvidia-cert-status");
    const char *ocsp = jsonin_string(chain, "x-nvidia-cert-ocsp-status");
    return status && strcmp(status, "valid") == 0 && ocsp && strcmp(ocsp, "good") == 0 &&
           not_denied(chain, "x-nvidia-cert-ocsp-nonce-matches") &&
           not_denied(chain, "x-nvidia-cert-ocsp-response-valid");
}

bool policy_builtin_one(struct json_object *claims, const char *name, struct att_verdict *v)
{
    static const char suffix[] = "-cert-chain";
    const char *measres = jsonin_string(claims, "measres");
    unsigned chains = 0;
    bool ok = true;
    trail_subject(v, "%.40s", name);
    if (!measres || strcmp(measres, "success") != 0)
        ok = trail_fail(v, ATT_ERR_POLICY, "policy.builtin", "measres is not success");
    json_object_object_foreach(claims, key, member)
    {
        size_t len = strlen(key);
        if (len < sizeof suffix || strcmp(key + len - (sizeof suffix - 1), suffix) != 0)
            continue;
        chains++;
        if (!chain_good(member))
            ok = trail_fail(v, ATT_ERR_POLICY, "policy.builtin",
                            "%.80s is not valid with a good, fresh OCSP answer", key);
    }
    if (chains < 2) /* report and at least one RIM */
        ok = trail_fail(v, ATT_ERR_POLICY, "policy.builtin", "certificate chains are missing");
    trail_subject(v, "%s", "");
    return ok;
}

static bool builtin(struct json_object *devices, struct json_object *names, struct att_verdict *v)
{
    bool ok = true;
    size_t n = devices ? json_object_array_length(devices) : 0;
    if (n == 0)
        return trail_fail(v, ATT_ERR_POLICY, "policy.submodules", "no device to approve");
    for (size_t i = 0; i < n; i++)
        ok &= policy_builtin_one(json_object_array_get_idx(devices, i),
                                 json_object_get_string(json_object_array_get_idx(names, i)), v);
    if (ok)
        (void)trail_pass(v, "policy.builtin", "measurements, chains and revocation of %zu devices",
                         n);
    return ok;
}

int att_appraise(struct att_verdict *verdict, const struct att_text *policy, struct err *err)
{
    bool ok;
    if (verdict->class != ATT_ACCEPTED) { /* what is not genuine needs no appraisal */
        (void)trail_note(verdict, "policy.skipped", "not appraised: the evidence was not accepted");
        return 0;
    }
    if (policy) {
        struct claimset set = {0};
        int r = claimset_of_verdict(&set, verdict, err);
        if (r < 0)
            return r;
        ok = run(policy, &set, verdict);
        claimset_done(&set);
    } else {
        ok = builtin(verdict->claims[ATT_CLAIMS_V3], verdict->names, verdict);
    }
    if (!ok) { /* genuine, but not wanted */
        verdict->class = ATT_POLICY;
        verdict->code = ATT_ERR_POLICY;
    }
    return 0;
}
