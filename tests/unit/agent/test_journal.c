#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/journal.h"

static struct journal sample(void)
{
    struct journal j = {.boot_id = "3d1c-boot", .removed = "0000:9a:00.0", .registered = true};
    struct journal_device *d = journal_put(&j, "0000:18:00.0");
    d->device_id = 0x2331;
    strcpy(d->original_driver, "nvidia");
    d->verified_mode = CC_MODE_ON;
    d->settled = true;
    d->capable_known = true;
    d->capable_modes = CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_ON);
    d = journal_put(&j, "0000:2a:00.0");
    d->device_id = 0x22a3;
    d->changing_to = CC_MODE_PPCIE;
    d->unordered = true;
    return j;
}

static void what_was_written_is_read_again(void **state)
{
    (void)state;
    struct journal a = sample(), b = {0};
    struct err err = ERR_INIT;
    AUTO_FREE char *text = journal_format(&a);
    if (journal_parse(text, strlen(text), &b, &err) != 0)
        fail_msg("%s", err.msg);
    AUTO_FREE char *again = journal_format(&b);
    assert_string_equal(text, again);
    assert_true(b.registered);
    assert_int_equal(b.devices[0].device_id, 0x2331);
    assert_int_equal(b.devices[1].changing_to, CC_MODE_PPCIE);
    assert_true(b.devices[1].unordered && !b.devices[0].unordered);
    assert_string_equal(b.devices[0].original_driver, "nvidia");
    assert_string_equal(b.removed, "0000:9a:00.0");
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct journal a = sample();
    AUTO_FREE char *text = journal_format(&a);
    for (size_t n = 0; n + 2 < strlen(text); n++) {
        struct journal b = {.n = 77};
        struct err err = ERR_INIT;
        assert_int_equal(journal_parse(text, n, &b, &err), -EINVAL);
        assert_int_equal(b.n, 77);
    }
}

static void every_changed_value_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"on\"", "\"devtools\"", "checksum"},
        {"2331", "2330", "checksum"},
        {"true", "false", "checksum"},
        {"3d1c", "3d1d", "checksum"},
        {"nvidia", "nvidix", "checksum"},
        {"\"version\": 2", "\"version\": 3", "version 3"},
        {"\"off\"", "\"ppcie\"", "checksum"},
        {"\"off\"", "\"of\"", "capable_modes"},
        {"\"registered\": true", "\"registered\": 1", "neither true nor false"},
        {"\"registered\": true", "\"registered\": false", "checksum"},
        {"\"unordered\": true", "\"unordered\": \"no\"", "neither true nor false"},
        {"\"unordered\": true", "\"unordered\": false", "checksum"},
        {"\"on\"", "\"perhaps\"", "mode"},
        {"\"journal\"", "\"jornal\"", "missing"},
        {"0000:2a", "0000:18", "twice"},
        {"\"settled\"", "\"setled\"", "lacks"},
    };
    struct journal a = sample();
    AUTO_FREE char *text = journal_format(&a);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        AUTO_FREE char *changed =
            xasprintf("%.*s%s%s", (int)(at - text), text, cases[i].to, at + strlen(cases[i].from));
        struct journal b = {0};
        struct err err = ERR_INIT;
        if (journal_parse(changed, strlen(changed), &b, &err) != -EINVAL)
            fail_msg("accepted: %s -> %s", cases[i].from, cases[i].to);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("%s -> %s gives: %s", cases[i].from, cases[i].to, err.msg);
    }
}

static void only_a_settled_mode_of_this_boot_and_device_counts(void **state)
{
    (void)state;
    struct journal j = sample();
    struct nv_device dev = {.bdf = "0000:18:00.0", .device_id = 0x2331};
    assert_int_equal(journal_verified_mode(&j, &dev, "3d1c-boot"), CC_MODE_ON);
    assert_int_equal(journal_verified_mode(&j, &dev, "other"), CC_MODE_UNKNOWN);
    assert_int_equal(journal_verified_mode(&j, &dev, ""), CC_MODE_UNKNOWN);
    dev.device_id = 0x2330;
    assert_int_equal(journal_verified_mode(&j, &dev, "3d1c-boot"), CC_MODE_UNKNOWN);
    dev.device_id = 0x2331;
    journal_put(&j, dev.bdf)->settled = false;
    assert_int_equal(journal_verified_mode(&j, &dev, "3d1c-boot"), CC_MODE_UNKNOWN);
    journal_put(&j, dev.bdf)->settled = true;
    journal_put(&j, dev.bdf)->changing_to = CC_MODE_OFF;
    assert_int_equal(journal_verified_mode(&j, &dev, "3d1c-boot"), CC_MODE_UNKNOWN);
    struct nv_device other = {.bdf = "0000:99:00.0", .device_id = 0x2331};
    assert_int_equal(journal_verified_mode(&j, &other, "3d1c-boot"), CC_MODE_UNKNOWN);
}

static void what_it_can_do_counts_for_this_boot_and_device(void **state)
{
    (void)state;
    struct journal j = sample();
    struct nv_device dev = {.bdf = "0000:18:00.0", .device_id = 0x2331};
    unsigned modes = 77;
    assert_true(journal_capable_modes(&j, &dev, "3d1c-boot", &modes));
    assert_int_equal(modes, CC_MODE_BIT(CC_MODE_OFF) | CC_MODE_BIT(CC_MODE_ON));
    assert_false(journal_capable_modes(&j, &dev, "other", &modes));
    assert_false(journal_capable_modes(&j, &dev, "", &modes));
    dev.device_id = 0x2330;
    assert_false(journal_capable_modes(&j, &dev, "3d1c-boot", &modes));
    struct nv_device unread = {.bdf = "0000:2a:00.0", .device_id = 0x22a3};
    assert_false(journal_capable_modes(&j, &unread, "3d1c-boot", &modes));
    dev.device_id = 0x2331;
    journal_begin_boot(&j, "3d1c-boot"); /* the same one */
    assert_true(journal_capable_modes(&j, &dev, "3d1c-boot", &modes));
    assert_string_equal(j.removed, "0000:9a:00.0");
    assert_true(journal_may_have_given(&j, "3d1c-boot"));
    assert_true(journal_may_have_given(&j, "")); /* rather too careful */
    assert_false(journal_may_have_given(&j, "next"));
    journal_begin_boot(&j, "next");
    assert_false(journal_may_have_given(&j, "next"));
    assert_string_equal(j.removed, "");
    assert_false(journal_capable_modes(&j, &dev, "next", &modes));
    assert_int_equal(journal_verified_mode(&j, &dev, "next"), CC_MODE_UNKNOWN);
}

/* Written before capable_modes existed: an upgrade under running pods believes what it vouches for. */
static void version_1_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "{\"version\":1,\"checksum\":"
        "\"497f0cf21a1ca37a2dbf30d972aff9e714a14cab4e112d79f71235af66a4b371\","
        "\"journal\":{\"boot_id\":\"b\",\"devices\":[{\"bdf\":\"0000:18:00.0\",\"device_id\":"
        "\"2331\","
        "\"original_driver\":\"nvidia\",\"verified_mode\":\"on\",\"settled\":true,"
        "\"changing_to\":\"unknown\"}]}}";
    struct journal j = {0};
    struct err err = ERR_INIT;
    if (journal_parse(text, strlen(text), &j, &err) != 0)
        fail_msg("%s", err.msg);
    struct nv_device dev = {.bdf = "0000:18:00.0", .device_id = 0x2331};
    unsigned modes;
    assert_int_equal(journal_verified_mode(&j, &dev, "b"), CC_MODE_ON);
    assert_false(journal_capable_modes(&j, &dev, "b", &modes));
}

static void full_journal_drops_the_entry_that_says_nothing(void **state)
{
    (void)state;
    struct journal j = {0};
    char bdf[BDF_SIZE];
    for (unsigned i = 0; i < NV_MAX_DEVICES; i++) {
        (void)snprintf(bdf, sizeof bdf, "0000:%02x:00.0", i);
        journal_put(&j, bdf)->verified_mode = i == 5 ? CC_MODE_UNKNOWN : CC_MODE_ON;
    }
    assert_ptr_equal(journal_put(&j, "0000:07:00.0"), journal_find(&j, "0000:07:00.0"));
    assert_int_equal(j.n, NV_MAX_DEVICES);
    (void)journal_put(&j, "0001:00:00.0");
    assert_int_equal(j.n, NV_MAX_DEVICES);
    assert_null(journal_find(&j, "0000:05:00.0"));
    assert_non_null(journal_find(&j, "0000:00:00.0"));
    assert_int_equal(journal_find(&j, "0001:00:00.0")->verified_mode, CC_MODE_UNKNOWN);
}

struct place {
    char root[64];
    struct host host;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct err err = ERR_INIT;
    strcpy(p->root, "/tmp/ccn-journal-XXXXXX");
    if (!p || !mkdtemp(p->root) || host_open(&p->host, p->root, &err) < 0)
        return -1;
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    host_close(&p->host);
    AUTO_FREE char *command = xasprintf("rm -rf '%s'", p->root);
    int r = system(command);
    free(p);
    return r;
}

static void absent_journal_is_an_empty_one(void **state)
{
    struct place *p = *state;
    struct journal j = {.n = 3};
    struct err err = ERR_INIT;
    assert_int_equal(journal_load(&p->host, "/var/lib/ccnode", &j, &err), 0);
    assert_int_equal(j.n, 0);
}

static void saved_journal_is_loaded(void **state)
{
    struct place *p = *state;
    struct journal a = sample(), b;
    struct err err = ERR_INIT;
    assert_int_equal(journal_save(&p->host, "/var/lib/ccnode", &a, &err), 0);
    assert_int_equal(journal_load(&p->host, "/var/lib/ccnode", &b, &err), 1);
    assert_string_equal(b.boot_id, a.boot_id);
    assert_int_equal(b.n, 2);
}

static void damaged_journals_are_set_aside_and_only_a_few_are_kept(void **state)
{
    struct place *p = *state;
    struct err err = ERR_INIT;
    assert_int_equal(fs_mkdirs(&p->host, "/s", &err), 0);
    for (int i = 1; i <= 7; i++) {
        struct journal j;
        char name[32];
        assert_int_equal(
            fs_replace(&p->host, "/s", "journal.json", "{\"version\":9}", 13, 0600, false, &err),
            0);
        assert_int_equal(journal_load(&p->host, "/s", &j, &err), -EINVAL);
        assert_int_equal(j.n, 0);
        (void)snprintf(name, sizeof name, "journal.json.bad-%d", i < 4 ? i : 4);
        if (!strstr(err.msg, name) || !strstr(err.msg, "version 9"))
            fail_msg("%s", err.msg);
        assert_int_equal(journal_load(&p->host, "/s", &j, &err), 0);
    }
    AUTO_CLOSE int dir = host_openat(&p->host, "/s", O_RDONLY | O_DIRECTORY, &err);
    assert_int_equal(faccessat(dir, "journal.json.bad-4", F_OK, 0), 0);
    assert_int_equal(faccessat(dir, "journal.json.bad-5", F_OK, 0), -1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_again),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_value_is_refused),
        cmocka_unit_test(only_a_settled_mode_of_this_boot_and_device_counts),
        cmocka_unit_test(what_it_can_do_counts_for_this_boot_and_device),
        cmocka_unit_test(version_1_is_read),
        cmocka_unit_test(full_journal_drops_the_entry_that_says_nothing),
        cmocka_unit_test_setup_teardown(absent_journal_is_an_empty_one, setup, teardown),
        cmocka_unit_test_setup_teardown(saved_journal_is_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_journals_are_set_aside_and_only_a_few_are_kept,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
