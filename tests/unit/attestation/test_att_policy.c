/* Policies: what they approve, and that no mistake in one approves everything. */
#include "tests/unit/attestation/mint.h"

#include <string.h>

#include "base/auto.h"

#define V4(overall, detached)                                                                      \
    "{\"version\":\"4.0\",\"authorization-rules\":{\"type\":\"JWT\",\"overall-claims\":" overall   \
    ",\"detached-claims\":" detached "}}"
#define OVERALL "{\"x-nvidia-overall-att-result\":true,\"x-nvidia-ver\":\"3.0\",\"submods\":{}}"

static const struct {
    const char *what, *policy, *claims, *more, *rule;
} cases[] = {
    {"flat", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":true}}", "{\"a\":true}", NULL,
     NULL},
    {"number for boolean", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":true}}",
     "{\"a\":1}", NULL, "policy.rule"},
    {"null for absent", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":null}}", "{\"b\":1}",
     NULL, "policy.rule"},
    {"2023 alias", "{\"version\":\"1.0\",\"authorization-rules\":{\"x-nv-gpu-availability\":true}}",
     "{\"x-nv-gpu-available\":true}", NULL, NULL},
    {"empty rules", "{\"version\":\"1.0\",\"authorization-rules\":{}}", "{\"a\":1}", NULL,
     "policy.form"},
    {"rules are a list", "{\"version\":\"1.0\",\"authorization-rules\":[]}", "{\"a\":1}", NULL,
     "policy.form"},
    {"no version", "{\"authorization-rules\":{\"a\":1}}", "{\"a\":1}", NULL, "policy.form"},
    {"version 9", "{\"version\":\"9.0\",\"authorization-rules\":{\"a\":1}}", "{\"a\":1}", NULL,
     "policy.form"},
    {"unknown member", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":1},\"x\":1}",
     "{\"a\":1}", NULL, "policy.form"},
    {"duplicate rule", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":1,\"a\":1}}",
     "{\"a\":1}", NULL, "policy.form"},
    {"v4", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"m\":\"success\"}"), OVERALL,
     "{\"GPU-0\":{\"m\":\"success\"},\"GPU-1\":{\"m\":\"success\",\"n\":1}}", NULL},
    {"v4, both in one document", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"m\":\"success\"}"),
     "{\"overall\":" OVERALL ",\"detached\":{\"GPU-0\":{\"m\":\"success\"}}}", NULL, NULL},
    {"v4, both in one document, differs", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"m\":\"success\"}"),
     "{\"overall-claims\":" OVERALL ",\"detached-claims\":[{\"m\":\"fail\"}]}", NULL,
     "policy.rule"},
    {"v4, one device differs", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"m\":\"success\"}"), OVERALL,
     "{\"GPU-0\":{\"m\":\"success\"},\"GPU-1\":{\"m\":\"fail\"}}", "policy.rule"},
    {"v4, overall differs", V4("{\"x-nvidia-ver\":\"2.0\"}", "{\"m\":\"success\"}"), OVERALL,
     "{\"GPU-0\":{\"m\":\"success\"}}", "policy.rule"},
    {"v4, nested listed only", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"c\":{\"s\":\"good\"}}"),
     OVERALL, "{\"GPU-0\":{\"c\":{\"s\":\"good\",\"t\":1}}}", NULL},
    {"v4, nested differs", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"c\":{\"s\":\"good\"}}"), OVERALL,
     "{\"GPU-0\":{\"c\":{\"s\":\"revoked\"}}}", "policy.rule"},
    {"v4, nested missing", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"c\":{\"s\":\"good\"}}"), OVERALL,
     "{\"GPU-0\":{\"c\":{}}}", "policy.rule"},
    {"v4, nested is text", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"c\":{\"s\":\"good\"}}"), OVERALL,
     "{\"GPU-0\":{\"c\":\"good\"}}", "policy.rule"},
    {"v4, no device", V4("{\"x-nvidia-ver\":\"3.0\"}", "{\"m\":\"success\"}"), OVERALL, NULL,
     "policy.submodules"},
    {"v4, empty overall", V4("{}", "{\"m\":\"success\"}"), OVERALL,
     "{\"GPU-0\":{\"m\":\"success\"}}", "policy.form"},
    {"v4, empty detached", V4("{\"x-nvidia-ver\":\"3.0\"}", "{}"), OVERALL,
     "{\"GPU-0\":{\"m\":\"success\"}}", "policy.form"},
    {"v4, no type",
     "{\"version\":\"4.0\",\"authorization-rules\":{\"overall-claims\":{\"a\":1},\"detached-"
     "claims\":"
     "{\"a\":1}}}",
     OVERALL, "{\"GPU-0\":{\"a\":1}}", "policy.form"},
    {"Rego", "package policy\ndefault nv_match = true\n", "{\"a\":1}", NULL, "policy.rego"},
    {"claims are no JSON", "{\"version\":\"1.0\",\"authorization-rules\":{\"a\":1}}", "{", NULL,
     "policy.claims"},
};

static void each_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct att_verdict *v = NULL;
        struct att_text policy = {cases[i].policy, strlen(cases[i].policy), "policy"};
        struct att_text claims[2] = {{cases[i].claims, strlen(cases[i].claims), "claims"}};
        if (cases[i].more)
            claims[1] = (struct att_text){cases[i].more, strlen(cases[i].more), "more claims"};
        assert_int_equal(att_check_policy(&policy, claims, cases[i].more ? 2 : 1, &v, &err), 0);
        mint_expect(v, cases[i].what, cases[i].rule);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
