#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "cdi/cdi.h"

#define NODE "{ \"deviceNodes\": [ { \"path\": \"/dev/null\" } ] }"

/* Checks @text and expects one finding (severity -1: none) in @line whose cause contains @cause. */
static void expect(const char *text, int severity, unsigned line, const char *cause)
{
    struct cdi_report report = {0};
    cdi_check_text("a.yaml", text, strlen(text), &report);
    if (cdi_report_worst(&report) != severity)
        fail_msg("severity %d instead of %d for\n%s\n%s", cdi_report_worst(&report), severity, text,
                 report.n > 0 ? report.findings[0].cause : "");
    bool found = severity < 0;
    for (size_t i = 0; i < report.n && !found; i++)
        found = strstr(report.findings[i].cause, cause) && report.findings[i].line == line;
    if (!found)
        fail_msg("no '%s' in line %u but line %u '%s' for\n%s", cause, line,
                 report.findings[0].line, report.findings[0].cause, text);
    for (size_t i = 0; i < report.n; i++) {
        assert_true(report.findings[i].cure[0] != '\0');
        assert_string_equal(report.findings[i].file, "a.yaml");
    }
    cdi_report_free(&report);
}

static void test_good_files(void **state)
{
    (void)state;
    expect("{\"cdiVersion\": \"0.5.0\", \"kind\": \"nvidia.com/pgpu\", \"devices\": [ {\"name\": "
           "\"0\", "
           "\"containerEdits\": " NODE "}]}",
           -1, 0, "");
    expect("---\ncdiVersion: 0.3.0\nkind: vendor.com/net_x-1\ndevices:\n- name: a:b.c\n  "
           "containerEdits:\n"
           "    env: [A=b]\n    mounts:\n    - {hostPath: /a, containerPath: /b, options: [ro]}\n"
           "    hooks:\n    - {hookName: createContainer, path: /bin/x, args: [a], timeout: 5}\n"
           "    deviceNodes:\n    - {path: /dev/a, type: c, major: 1, minor: 3, fileMode: 0o666, "
           "uid: 0}\n"
           "containerEdits:\n  env:\n",
           -1, 0, "");
    /* an anchor is legal */
    expect("cdiVersion: 0.6.0\nkind: v.com/c\nannotations: {a: b}\ndevices:\n- name: a\n"
           "  containerEdits: &e\n    env: [A=b]\n- name: b\n  containerEdits: *e\n",
           -1, 0, "");
}

static void test_versions(void **state)
{
    (void)state;
    expect("cdiVersion: 0.9.0\nkind: v.com/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
           CDI_ERROR, 1, "does not exist");
    expect(
        "cdiVersion: 0.4.0\nkind: v.com/c\ndevices:\n- name: 0a\n  containerEdits: {env: [A=b]}\n",
        CDI_ERROR, 1, "needs 0.5.0");
    expect("cdiVersion: 0.4.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits:\n    "
           "deviceNodes:\n"
           "    - path: /dev/a\n      hostPath: /dev/b\n",
           CDI_ERROR, 1, "\"hostPath\" in line 8");
    expect(
        "cdiVersion: 0.5.0\nkind: v.com/c.d\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
        CDI_ERROR, 1, "\"kind\" in line 2 needs 0.6.0");
    /* what the container toolkit writes since 1.19 */
    expect("cdiVersion: 0.7.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n"
           "    additionalGids: [44]\n",
           CDI_WARNING, 1, "Kata's Go shim");
    expect("cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n"
           "    additionalGids: [44]\n",
           CDI_ERROR, 1, "needs 0.7.0");
}

static void test_members(void **state)
{
    (void)state;
    expect("cdiVersion: 0.5.0\nkind: v.com/c\nextra: 1\ndevices: [{name: a, containerEdits: {env: "
           "[A=b]}}]\n",
           CDI_ERROR, 3, "no member \"extra\"");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\nkind: v.com/d\n"
           "devices: [{name: a, containerEdits: {env: [A=b]}}]\n",
           CDI_ERROR, 3, "given twice");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\n", CDI_ERROR, 1, "needs the member \"devices\"");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices: []\n", CDI_ERROR, 3, "no devices");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits: {}\n",
           CDI_ERROR, 5, "empty containerEdits");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices: a\n", CDI_ERROR, 3, "must be a list");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits:\n    "
           "deviceNodes:\n"
           "    - {path: /dev/a, major: \"1\"}\n",
           CDI_ERROR, 7, "whole number");
    expect(
        "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: 0\n  containerEdits: {env: [A=b]}\n",
        -1, 0, "");
}

static void test_names_and_values(void **state)
{
    (void)state;
    static const char *const kinds[] = {"c",       "v.com/",   "/c",     "v.com/10de",
                                        "1.com/c", "v.com/c_", "v com/c"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        AUTO_FREE char *text = xasprintf("cdiVersion: 0.5.0\nkind: \"%s\"\n"
                                         "devices: [{name: a, containerEdits: {env: [A=b]}}]\n",
                                         kinds[i]);
        expect(text, CDI_ERROR, 2, "not a legal vendor/class");
    }
    static const struct {
        const char *edits, *cause;
    } bad[] = {
        {"env: [A]", "env entry"},
        {"env: [=A]", "env entry"},
        {"deviceNodes: [{path: \"\"}]", "empty path"},
        {"deviceNodes: [{path: /dev/a, type: x}]", "type"},
        {"deviceNodes: [{path: /dev/a, permissions: rx}]", "permissions"},
        {"deviceNodes: [{hostPath: /dev/a}]", "needs the member \"path\""},
        {"mounts: [{hostPath: /a}]", "containerPath"},
        {"mounts: [{hostPath: /a, containerPath: \"\"}]", "empty \"containerPath\""},
        {"hooks: [{hookName: nope, path: /a}]", "does not exist"},
        {"hooks: [{hookName: prestart, path: \"\"}]", "empty path"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_FREE char *text = xasprintf("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a\n"
                                         "  containerEdits: {%s}\n",
                                         bad[i].edits);
        expect(text, CDI_ERROR, 5, bad[i].cause);
    }
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits: {env: [A=b]}\n"
           "- name: a\n  containerEdits: {env: [A=b]}\n",
           CDI_ERROR, 6, "already in line 4");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: \"a b\"\n  containerEdits: {env: "
           "[A=b]}\n",
           CDI_ERROR, 4, "legal device name");
}

static void test_broken_text(void **state)
{
    (void)state;
    expect("", CDI_ERROR, 0, "empty");
    expect("cdiVersion: [\n", CDI_ERROR, 1, "neither YAML nor JSON");
    expect("just words\n", CDI_ERROR, 1, "must be a map");
    expect("{\"cdiVersion\": \"0.5.0\", \"kind\": \"a.b/c\",\n\"devices\": [ {\"name\": ",
           CDI_ERROR, 2, "neither YAML nor JSON");
    expect("cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n"
           "---\nmore: 1\n",
           CDI_WARNING, 5, "second YAML document");
    /* nothing from a file reaches a terminal as a control character */
    struct cdi_report report = {0};
    static const char text[] = "cdiVersion: \"0.5\\e[31m\"\nkind: \"a\\n\"\ndevices: []\n";
    cdi_check_text("a\n.yaml", text, sizeof text - 1, &report);
    for (size_t i = 0; i < report.n; i++) {
        assert_null(strpbrk(report.findings[i].cause, "\x1b\n"));
        assert_null(strchr(report.findings[i].file, '\n'));
    }
    cdi_report_free(&report);
}

/* Large and endless inputs end soon and in a bounded report. */
static void test_hostile_sizes(void **state)
{
    (void)state;
    AUTO_FREE char *deep = xmalloc(CDI_MAX_FILE + 1);
    memset(deep, '[', CDI_MAX_FILE);
    deep[CDI_MAX_FILE] = '\0';
    expect(deep, CDI_ERROR, 1, "nested");

    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    /* 3 levels of 300 aliases: 27 million values in 10 kB */
    (void)fputs(
        "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- &d\n  name: a\n  containerEdits:\n"
        "    hooks:\n    - &h\n      hookName: prestart\n      path: /a\n      args:\n      - a\n",
        out);
    for (int i = 0; i < 300; i++)
        (void)fputs("      - a\n", out);
    for (int i = 0; i < 300; i++)
        (void)fputs("    - *h\n", out);
    for (int i = 0; i < 300; i++)
        (void)fputs("- *d\n", out);
    (void)fclose(out);
    struct cdi_report report = {0};
    cdi_check_text("a.yaml", text, len, &report);
    assert_int_equal(cdi_report_worst(&report), CDI_ERROR);
    assert_int_equal(report.n, CDI_MAX_FINDINGS);
    assert_non_null(strstr(report.findings[CDI_MAX_FINDINGS - 1].cause, "more findings"));
    cdi_report_free(&report);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_files),  cmocka_unit_test(test_versions),
        cmocka_unit_test(test_members),     cmocka_unit_test(test_names_and_values),
        cmocka_unit_test(test_broken_text), cmocka_unit_test(test_hostile_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
