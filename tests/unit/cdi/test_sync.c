#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "cdi/cdi.h"

#define DIR_NAME "/var/run/cdi"

struct fixture {
    char root[32];
    struct host host;
    struct err err;
    struct cdi_sync_result result;
    char troubled[128]; /* the classes with an error of their own */
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    (void)snprintf(f->root, sizeof f->root, "/tmp/ccn_cdi_XXXXXX");
    assert_non_null(mkdtemp(f->root));
    assert_int_equal(host_open(&f->host, f->root, &f->err), 0);
    /* as on a real host: /var/run is a link to /run */
    assert_int_equal(fs_mkdirs(&f->host, "/var", &f->err), 0);
    assert_int_equal(fs_mkdirs(&f->host, "/run", &f->err), 0);
    assert_int_equal(symlinkat("/run", f->host.root_fd, "var/run"), 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    host_close(&f->host);
    (void)nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static int sync_devices(struct fixture *f, const int *groups, size_t n)
{
    struct cdi_device devs[8];
    for (size_t i = 0; i < n; i++) {
        devs[i] = (struct cdi_device){
            .class = "GH100_H100_PCIE", .indexed_class = "pgpu", .iommu_group = groups[i]};
        (void)snprintf(devs[i].bdf, sizeof devs[i].bdf, "0000:%02d:00.0", groups[i]);
    }
    struct cdi_specs specs;
    assert_int_equal(cdi_build(devs, n, &specs, &f->err), 0);
    f->err = ERR_INIT;
    int r = cdi_sync(&f->host, DIR_NAME, &specs, false, &f->result, &f->err);
    f->troubled[0] = '\0';
    for (size_t i = 0; i < specs.n; i++) {
        if (specs.specs[i].err.code != 0)
            strcat(strcat(f->troubled, " "), specs.specs[i].class);
    }
    cdi_specs_free(&specs);
    return r;
}

static void put(struct fixture *f, const char *name, const char *text)
{
    struct err err = ERR_INIT;
    assert_int_equal(fs_mkdirs(&f->host, DIR_NAME, &err), 0);
    assert_int_equal(fs_replace(&f->host, DIR_NAME, name, text, strlen(text), 0644, false, &err),
                     0);
}

static char *get(struct fixture *f, const char *name)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *path = xasprintf(DIR_NAME "/%s", name);
    char *text = NULL;
    return fs_read(&f->host, path, 1 << 20, &text, NULL, &err) == 0 ? text : NULL;
}

static bool exists(struct fixture *f, const char *name)
{
    AUTO_FREE char *text = get(f, name);
    return text != NULL;
}

static void test_write_change_remove(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12, 13};
    assert_int_equal(sync_devices(f, groups, 0), 0); /* no directory, nothing to do */
    struct err err = ERR_INIT;
    assert_int_equal(host_open_dir(&f->host, DIR_NAME, &err), -ENOENT);

    assert_int_equal(sync_devices(f, groups, 2), 0);
    assert_int_equal(f->result.written, 2);
    struct stat st;
    AUTO_FREE char *path = host_path(&f->host, "/run/cdi/nvidia.com-pgpu.yaml");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);

    assert_int_equal(sync_devices(f, groups, 2), 0);
    assert_int_equal(f->result.written, 0);
    assert_int_equal(f->result.unchanged, 2);

    assert_int_equal(sync_devices(f, groups, 1), 0); /* a device went: its entry goes */
    assert_int_equal(f->result.written, 2);
    AUTO_FREE char *text = get(f, "nvidia.com-pgpu.yaml");
    assert_null(strstr(text, "0000:13:00.0"));

    assert_int_equal(sync_devices(f, groups, 0), 0);
    assert_int_equal(f->result.removed, 2);
    assert_false(exists(f, "nvidia.com-pgpu.yaml"));
}

static void test_foreign_files_stay(void **state)
{
    struct fixture *f = *state;
    static const char foreign[] = "cdiVersion: 0.5.0\nkind: vendor.com/net\n"
                                  "devices: [{name: a, containerEdits: {env: [A=b]}}]\n";
    const int groups[] = {12};
    put(f, "vendor.yaml", foreign);
    put(f, "broken.json", "{");
    put(f, "nvidia.com-other.yaml", "garbage");
    put(f, "README", "text");
    assert_int_equal(sync_devices(f, groups, 1), 0);
    assert_int_equal(sync_devices(f, groups, 0), 0);
    AUTO_FREE char *text = get(f, "vendor.yaml");
    assert_string_equal(text, foreign);
    assert_true(exists(f, "broken.json"));
    assert_true(exists(f, "nvidia.com-other.yaml"));
    assert_true(exists(f, "README"));
}

#define KIND_PGPU                                                                                  \
    "cdiVersion: 0.5.0\nkind: nvidia.com/pgpu\ndevices:\n- name: \"3\"\n  containerEdits:\n"

static void test_leftover_of_a_peer_is_replaced(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    put(f, "nvidia.com-pgpu.yaml",
        KIND_PGPU "    deviceNodes:\n    - path: /dev/vfio/vfio\n    - path: /dev/vfio/3\n");
    assert_int_equal(sync_devices(f, groups, 1), 0);
    AUTO_FREE char *text = get(f, "nvidia.com-pgpu.yaml");
    assert_non_null(strstr(text, "0000:12:00.0"));
}

static void test_foreign_file_of_our_name(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    put(f, "nvidia.com-pgpu.yaml", KIND_PGPU "    env: [A=b]\n");
    assert_int_equal(sync_devices(f, groups, 1), -EEXIST);
    assert_non_null(strstr(f->err.msg, "nvidia.com-pgpu.yaml"));
    AUTO_FREE char *text = get(f, "nvidia.com-pgpu.yaml");
    assert_non_null(strstr(text, "A=b"));
    assert_true(exists(f, "nvidia.com-GH100_H100_PCIE.yaml")); /* the other kind is served */
    assert_string_equal(f->troubled, " pgpu");
}

static void test_foreign_file_of_our_kind(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    assert_int_equal(sync_devices(f, groups, 1), 0);
    put(f, "kata.yaml", KIND_PGPU "    deviceNodes: [{path: /dev/vfio/3}]\n");
    assert_int_equal(sync_devices(f, groups, 1), -EEXIST);
    assert_non_null(strstr(f->err.msg, "kata.yaml"));
    assert_false(exists(f, "nvidia.com-pgpu.yaml")); /* both together would be refused */
    assert_true(exists(f, "kata.yaml"));
    assert_string_equal(f->troubled, " pgpu");
    assert_true(exists(f, "nvidia.com-GH100_H100_PCIE.yaml"));
}

static void test_rubble_of_a_file_of_ours_is_replaced(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    static const char *const rubble[] = {"", "\x01\x02", "{\"a\": 1}", "# Written by ccn"};
    for (size_t i = 0; i < ARRAY_LEN(rubble); i++) {
        put(f, "nvidia.com-pgpu.yaml", rubble[i]);
        assert_int_equal(sync_devices(f, groups, 1), 0);
        AUTO_FREE char *text = get(f, "nvidia.com-pgpu.yaml");
        assert_non_null(strstr(text, "0000:12:00.0"));
    }
    /* not what is a specification, be it of a version that nobody knows yet */
    put(f, "nvidia.com-pgpu.yaml", "cdiVersion: 9.9.9\nkind: nvidia.com/pgpu\n");
    assert_int_equal(sync_devices(f, groups, 1), -EEXIST);
}

static int resolve(struct fixture *f, struct cdi_reader *reader, const char *id, const char *node)
{
    f->err = ERR_INIT;
    return cdi_reader_check(reader, DIR_NAME, "pgpu", id, node, &f->err);
}

/* What is on disk counts, not what was written. */
static void test_reading_back(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12, 13};
    struct cdi_reader *reader = cdi_reader_new(&f->host);
    assert_int_equal(resolve(f, reader, "0000:12:00.0", "/dev/vfio/12"), -EBADMSG); /* no file */
    assert_int_equal(sync_devices(f, groups, 2), 0);
    assert_true(cdi_reader_update(reader));
    assert_false(cdi_reader_update(reader));
    assert_int_equal(resolve(f, reader, "0000:12:00.0", "/dev/vfio/12"), 0);
    assert_int_equal(resolve(f, reader, "1", "/dev/vfio/13"), 0);
    assert_int_equal(resolve(f, reader, "0000:12:00.0", "/dev/vfio/13"), -EBADMSG);
    assert_non_null(
        strstr(f->err.msg, "is /dev/vfio/12 in /var/run/cdi/nvidia.com-pgpu.yaml, not"));
    assert_int_equal(resolve(f, reader, "2", "/dev/vfio/14"), -ENOENT);
    assert_non_null(strstr(f->err.msg, "nvidia.com/pgpu=2 does not resolve"));

    AUTO_FREE char *path = host_path(&f->host, "/run/cdi/nvidia.com-pgpu.yaml");
    assert_int_equal(truncate(path, 200), 0);
    assert_true(cdi_reader_update(reader));
    assert_int_equal(resolve(f, reader, "0000:12:00.0", "/dev/vfio/12"), -EBADMSG);
    assert_non_null(strstr(f->err.msg, "line "));
    put(f, "nvidia.com-pgpu.yaml", KIND_PGPU "    deviceNodes: [{path: /dev/vfio/3}]\n");
    assert_true(cdi_reader_update(reader));
    assert_int_equal(resolve(f, reader, "3", "/dev/vfio/3"), -EBADMSG);
    assert_non_null(strstr(f->err.msg, "somebody else"));
    assert_int_equal(unlink(path), 0);
    assert_true(cdi_reader_update(reader));
    assert_int_equal(resolve(f, reader, "3", "/dev/vfio/3"), -EBADMSG);
    assert_int_equal(sync_devices(f, groups, 2), 0);
    assert_true(cdi_reader_update(reader));
    assert_int_equal(resolve(f, reader, "0", "/dev/vfio/12"), 0);
    cdi_reader_free(reader);
    cdi_reader_free(NULL);
}

static void test_temporary_files_of_a_killed_writer(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    put(f, ".nvidia.com-pgpu.yaml.999999999.tmp", "half");
    put(f, ".other.tmp", "theirs");
    assert_int_equal(sync_devices(f, groups, 1), 0);
    assert_false(exists(f, ".nvidia.com-pgpu.yaml.999999999.tmp"));
    assert_true(exists(f, ".other.tmp"));
}

static void check(struct fixture *f, struct cdi_report *report)
{
    static const char *const dirs[] = {"/etc/cdi", "/var/run/cdi", "/run/cdi"};
    *report = (struct cdi_report){0};
    assert_int_equal(cdi_check_dirs(&f->host, dirs, ARRAY_LEN(dirs), report, &f->err), 0);
}

static const struct cdi_finding *find(const struct cdi_report *report, const char *cause)
{
    for (size_t i = 0; i < report->n; i++)
        if (strstr(report->findings[i].cause, cause))
            return &report->findings[i];
    return NULL;
}

static void test_check_directories(void **state)
{
    struct fixture *f = *state;
    const int groups[] = {12};
    struct cdi_report report;
    assert_int_equal(fs_mkdirs(&f->host, "/etc/cdi", &f->err), 0);
    assert_int_equal(fs_mkdirs(&f->host, "/dev/vfio", &f->err), 0);
    assert_int_equal(sync_devices(f, groups, 1), 0);
    check(f, &report);
    assert_int_equal(report.n_files, 2); /* /run/cdi and /var/run/cdi are one */
    const struct cdi_finding *missing = find(&report, "/dev/vfio/12");
    assert_non_null(missing);
    assert_int_equal(missing->severity, CDI_ERROR);
    assert_true(missing->ours);
    cdi_report_free(&report);

    struct err err = ERR_INIT;
    assert_int_equal(fs_replace(&f->host, "/dev/vfio", "12", "", 0, 0600, false, &err), 0);
    check(f, &report);
    assert_int_equal(report.n, 0);
    assert_int_equal(report.n_devices, 5);
    cdi_report_free(&report);

    put(f, "kata.yaml",
        "cdiVersion: 0.5.0\nkind: nvidia.com/pgpu\ndevices:\n- name: \"0\"\n"
        "  containerEdits: {deviceNodes: [{path: /dev/vfio/12}]}\n");
    put(f, "nvidia.yaml", "cdiVersion: 0.7.0\nkind: nvidia.com/gpu\nnonsense: 1\n");
    check(f, &report);
    const struct cdi_finding *twice = find(&report, "consumers refuse both");
    assert_non_null(twice);
    assert_false(twice->ours);
    assert_string_equal(twice->file, "/var/run/cdi/kata.yaml");
    assert_int_equal(twice->line, 4);
    assert_non_null(find(&report, "nonsense"));
    assert_int_equal(cdi_report_worst(&report), CDI_ERROR);
    cdi_report_free(&report);
}

static void test_check_odd_entries(void **state)
{
    struct fixture *f = *state;
    struct cdi_report report;
    put(f, "a.yaml", "x");
    AUTO_FREE char *link = host_path(&f->host, "/run/cdi/dangling.json");
    assert_int_equal(symlink("/nowhere", link), 0);
    AUTO_FREE char *fifo = host_path(&f->host, "/run/cdi/fifo.yaml");
    assert_int_equal(mkfifo(fifo, 0644), 0); /* nobody writes: must not hang */
    AUTO_FREE char *sub = host_path(&f->host, "/run/cdi/sub");
    assert_int_equal(mkdir(sub, 0755), 0);
    AUTO_FREE char *large = xmalloc(CDI_MAX_FILE + 2);
    memset(large, ' ', CDI_MAX_FILE + 1);
    large[CDI_MAX_FILE + 1] = '\0';
    put(f, "large.json", large);
    check(f, &report);
    assert_non_null(find(&report, "dangling.json"));
    assert_non_null(find(&report, "a directory"));
    assert_non_null(find(&report, "larger than"));
    assert_non_null(find(&report, "does not exist")); /* /etc/cdi */
    cdi_report_free(&report);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_write_change_remove),
        TEST(test_foreign_files_stay),
        TEST(test_leftover_of_a_peer_is_replaced),
        TEST(test_foreign_file_of_our_name),
        TEST(test_foreign_file_of_our_kind),
        TEST(test_rubble_of_a_file_of_ours_is_replaced),
        TEST(test_reading_back),
        TEST(test_temporary_files_of_a_killed_writer),
        TEST(test_check_directories),
        TEST(test_check_odd_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
