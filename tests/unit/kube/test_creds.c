#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/kube/creds.h"

#define HEAD                                                                                       \
    "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: "   \
    "k, user: u, namespace: ns}}]\n"

static int parse(const char *clusters, const char *users, struct creds *ret, struct err *err)
{
    AUTO_FREE char *text =
        xasprintf(HEAD "clusters: [{name: k, cluster: {%s}}]\nusers: [{name: u, user: {%s}}]\n",
                  clusters, users);
    return kubeconfig_parse(text, strlen(text), "/dir", ret, err);
}

static void test_good(void **state)
{
    (void)state;
    struct creds c = {0};
    struct err err = ERR_INIT;
    int r = parse(
        "server: \"https://[::1]:6443/\", certificate-authority: ca.crt",
        "token: abc, client-certificate: /c.crt, client-key-data: LS0tLS1CRUdJTiBYCg==", &c, &err);
    if (r)
        fail_msg("%s", err.msg);
    assert_string_equal(c.server, "https://[::1]:6443");
    assert_string_equal(c.ca_file, "/dir/ca.crt");
    assert_string_equal(c.cert_file, "/c.crt");
    assert_string_equal(c.key_data, "-----BEGIN X\n");
    assert_string_equal(c.token, "abc");
    assert_string_equal(c.namespace_, "ns");
    assert_false(c.insecure);
    creds_done(&c);
    assert_int_equal(parse("server: \"https://a\", insecure-skip-tls-verify: true",
                           "tokenFile: t, token: x", &c, &err),
                     0);
    assert_true(c.insecure);
    assert_non_null(strstr(c.warning, "insecure-skip-tls-verify"));
    assert_string_equal(c.token_file, "/dir/t");
    assert_null(c.token);
    creds_done(&c);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *cluster, *user;
        int code;
        const char *words;
    } cases[] = {
        {"server: \"https://a\"", "exec: {command: gke-plugin}", ENOTSUP, "\"exec\" gke-plugin"},
        {"server: \"https://a\"", "auth-provider: {name: oidc}", ENOTSUP, "\"auth-provider\" oidc"},
        {"server: \"https://a\"", "username: admin, password: x", ENOTSUP, "username"},
        {"server: \"https://a\"", "as: root, token: x", ENOTSUP, "impersonate"},
        {"server: \"https://a\", proxy-url: \"http://p\"", "token: x", ENOTSUP, "proxy-url"},
        {"server: \"https://a\", tls-server-name: b", "token: x", ENOTSUP, "tls-server-name"},
        {"server: \"https://a\"", "token: [x]", EINVAL, "token at line"},
        {"server: \"https://a\"", "token: \"x y\"", EINVAL, "not allowed at position 2"},
        {"server: \"https://a\"", "token: \"x\\r\\nEvil: 1\"", EINVAL, "position 2"},
        {"server: \"https://a\"", "client-certificate: a", EINVAL, "both"},
        {"server: \"https://a\", certificate-authority-data: \"%%\"", "token: x", EINVAL, "base64"},
        {"server: \"https://a\", certificate-authority-data: aGFsbG8=", "token: x", EINVAL, "PEM"},
        {"server: \"https://a\", insecure-skip-tls-verify: yes", "token: x", EINVAL,
         "allowed: true, false"},
        {"server: \"http://10.0.0.1\"", "token: x", EINVAL, "plain http"},
        {"server: \"http://localhost.evil.org\"", "token: x", EINVAL, "plain http"},
        {"server: \"https://u:p@a\"", "token: x", EINVAL, "characters"},
        {"server: \"https://a?x\"", "token: x", EINVAL, "characters"},
        {"server: \"ftp://a\"", "token: x", EINVAL, "https://"},
        {"server: \"https://\"", "token: x", EINVAL, "HOST"},
        {"server: \"https://a:99999999\"", "token: x", EINVAL, "HOST"},
        {"a: b", "token: x", EINVAL, "no \"server\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct creds c = {0};
        struct err err = ERR_INIT;
        int r = parse(cases[i].cluster, cases[i].user, &c, &err);
        if (r != -cases[i].code || !strstr(err.msg, cases[i].words))
            fail_msg("%s / %s: %d %s", cases[i].cluster, cases[i].user, r, err.msg);
        assert_null(c.server);
    }
}

static void test_structure(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "a",
        "{",
        "&a [*a]",
        "a: &x {b: *x}",
        "current-context: c",
        "current-context: c\ncontexts: 5",
        "current-context: c\ncontexts: [{name: d, context: {}}]",
        "current-context: c\ncontexts: [{name: c, context: {}}]",
        "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: "
        "[{name: k, cluster: {server: "
        "\"https://a\"}}]\nusers: []",
        "\xff\xfe\x00",
        "current-context: \"a\\0b\""};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct creds c = {0};
        struct err err = ERR_INIT;
        if (kubeconfig_parse(texts[i], strlen(texts[i]), "/", &c, &err) != -EINVAL)
            fail_msg("accepted: %s", texts[i]);
        assert_true(err.msg[0]);
    }
}

static void test_loopback_http(void **state)
{
    (void)state;
    static const char *const good[] = {"http://127.0.0.1:8080", "http://[::1]:1",
                                       "http://localhost", "https://h/path/"};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO_FREE char *url = NULL;
        assert_int_equal(server_check(good[i], &url, &err), 0);
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_in_cluster_and_rotation(void **state)
{
    (void)state;
    char dir[] = "/tmp/creds-XXXXXX";
    struct creds c = {0};
    struct err err = ERR_INIT;
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *token = xasprintf("%s/token", dir);
    AUTO_FREE char *ca = xasprintf("%s/ca.crt", dir);
    AUTO_FREE char *ns = xasprintf("%s/namespace", dir);
    (void)unsetenv("KUBERNETES_SERVICE_PORT_HTTPS");
    (void)unsetenv("KUBERNETES_SERVICE_HOST");
    assert_int_equal(creds_load_in_cluster(&c, dir, &err), -ENOENT);
    (void)setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    (void)setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    assert_int_equal(creds_load_in_cluster(&c, dir, &err), -ENOENT);
    write_file(token, "one\n");
    write_file(ca, "x");
    write_file(ns, "gpu\n");
    assert_int_equal(creds_load_in_cluster(&c, dir, &err), 0);
    assert_string_equal(c.server, "https://[fd00::1]:443");
    assert_string_equal(c.namespace_, "gpu");
    assert_int_equal(creds_refresh(&c, 1000, false, &err), 0);
    write_file(token, "two\n");
    assert_int_equal(creds_refresh(&c, 60999, false, &err), 0); /* too early */
    assert_string_equal(c.token, "one");
    assert_int_equal(creds_refresh(&c, 61000, false, &err), 1);
    assert_string_equal(c.token, "two");
    write_file(token, "three");
    assert_int_equal(creds_refresh(&c, 61001, true, &err), 1); /* 401 */
    assert_string_equal(c.token, "three");
    write_file(token, "");
    assert_true(creds_refresh(&c, 61002, true, &err) < 0);
    assert_string_equal(c.token, "three"); /* the old one stays */
    creds_done(&c);
    (void)unlink(token);
    (void)unlink(ca);
    (void)unlink(ns);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_loopback_http),
        cmocka_unit_test(test_in_cluster_and_rotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
