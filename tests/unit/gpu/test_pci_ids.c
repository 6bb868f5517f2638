/* pci.ids through libpci: names of models that came after our table, and lists that are not used. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/pci_ids.h"

#define PLACE "/usr/share/misc/pci.ids"

static struct nv_inventory inv;

/* Return: what pci_ids_name() returned */
static int name_all(struct tree *t, struct err *err)
{
    struct nv_device *list[NV_MAX_DEVICES];
    struct err ignored = ERR_INIT;
    *err = ignored;
    assert_int_equal(inventory_scan(&t->host, NULL, &inv, &ignored), 0);
    for (size_t i = 0; i < inv.n; i++)
        list[i] = &inv.devices[i];
    return pci_ids_name(&t->host, list, inv.n, err);
}

static void unlisted_models_get_a_name(void **state)
{
    (void)state;
    struct err err;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2fff\n", "0x030200\n", 1);
    tree_device(t, "0000:19:00.0", "0x10de\n", "0x22ff\n", "0x068000\n", 2);
    tree_device(t, "0000:1a:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 3);
    tree_device(t, "0000:1b:00.0", "0x10de\n", "0x2fff\n", "0x030200\n", 4);
    assert_int_equal(name_all(t, &err), 0); /* no list: no reproach */
    assert_string_equal(inv.devices[0].resource, "GPU_10DE_2FFF");
    assert_string_equal(inv.devices[1].resource, "NVSWITCH_10DE_22FF");
    assert_string_equal(inv.devices[3].resource, "GPU_10DE_2FFF");
    tree_file(t, "/usr/share/hwdata/pci.ids",
              "# comment\n\n10dd  Other\n\t2fff  Wrong vendor\n10de  NVIDIA Corporation\n"
              "\t2331  Listed in our table\n"
              "\t2fff  GB300 [New / GPU 3.5]\n\t\t10de 2fff  A board\n\t3000  X\n10df  Next\n"
              "C 03  Display controller\n\t02  3D controller\n");
    assert_int_equal(name_all(t, &err), 0);
    assert_string_equal(inv.devices[0].resource, "GB300_NEW___GPU_3_5");
    assert_string_equal(inv.devices[0].name, "GB300 [New / GPU 3.5]");
    assert_string_equal(inv.devices[1].resource, "NVSWITCH_10DE_22FF");
    assert_string_equal(inv.devices[2].resource, "GH100_H100_PCIE");
    assert_string_equal(inv.devices[3].resource, "GB300_NEW___GPU_3_5");
    assert_string_equal(inv.devices[3].name, "GB300 [New / GPU 3.5]");
    tree_free(t);
}

static void lists_that_are_not_used(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"10de  NVIDIA\n\t2fff  New\n\tzzzz  Bad\n", "Parse error at"},
        {"10de  NVIDIA\n\t2fff  New\n\t2fff  Again\n", "Duplicate entry"},
        {"10de  NVIDIA\n\t2fff\n", "line 2"},
        {"10de  NVIDIA\n\t\t\t\t2fff  Deep\n", "line 2"},
        {"S 10ff\n", "Vendor does not exist"},
        {"\x7f"
         "ELF\x02\x01\x01",
         "Parse error"},
        {"\x1f\x8b\x08\x00", "compressed"},
        {"", "10de"},
        {"10dd  Other\n\t2fff  New\n", "10de"},
    };
    struct err err;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2fff\n", "0x030200\n", 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        tree_file(t, PLACE, cases[i].text);
        if (name_all(t, &err) >= 0 || !strstr(err.msg, cases[i].words) || !strstr(err.msg, PLACE))
            fail_msg("case %zu: '%s'", i, err.msg);
        assert_string_equal(inv.devices[0].resource, "GPU_10DE_2FFF");
    }
    AUTO_FREE char *line = xcalloc(3000, 1);
    memset(line, 'x', 2999);
    memcpy(line, "10de  ", 6);
    tree_file(t, PLACE, line);
    assert_int_equal(name_all(t, &err), -EBADMSG);
    tree_free(t);

    t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2fff\n", "0x030200\n", 1);
    tree_dir(t, PLACE);
    assert_int_equal(name_all(t, &err), -EINVAL);
    assert_string_equal(inv.devices[0].resource, "GPU_10DE_2FFF");
    tree_free(t);
}

static void large_lists_are_refused_unread(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO_CLOSE int fd = memfd_create("pci.ids", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    assert_null(pci_ids_open(fd, &err));
    assert_int_equal(err.code, EFBIG);
}

static int find(const char *list, int id, struct nv_device *dev)
{
    struct err err = ERR_INIT;
    AUTO_CLOSE int fd = memfd_create("pci.ids", MFD_CLOEXEC);
    assert_int_equal(write(fd, list, strlen(list)), strlen(list));
    struct pci_ids *ids = pci_ids_open(fd, &err);
    if (!ids)
        fail_msg("%s", err.msg);
    *dev = (struct nv_device){.vendor_id = 0x10de, .device_id = (uint16_t)id};
    int r = pci_ids_find(ids, dev, &err);
    pci_ids_close(ids);
    return r;
}

static void two_models_never_share_a_name(void **state)
{
    (void)state;
    static const char list[] =
        "10de  NVIDIA\n\t20b1  GA100 [A100 PCIe 40GB]\n\t7777  Twin\n\t7778  [twin]\n"
        "\t7779  Single\n\t777a  ()\n\t777b  T\xc3\xbcr\x01 \x7f\n";
    struct nv_device dev;
    assert_int_equal(find(list, 0x20b1, &dev), -ENOENT); /* 20f1 has it in our table */
    assert_int_equal(find(list, 0x7777, &dev), -ENOENT);
    assert_int_equal(find(list, 0x777a, &dev), -ENOENT); /* nothing is left of it */
    assert_string_equal(dev.resource, "");
    assert_int_equal(find(list, 0x777b, &dev), 0);
    assert_string_equal(dev.name, "T  r   ");
    assert_int_equal(find(list, 0x7779, &dev), 0);
    assert_string_equal(dev.resource, "SINGLE");
    assert_string_equal(dev.name, "Single");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unlisted_models_get_a_name),
        cmocka_unit_test(lists_that_are_not_used),
        cmocka_unit_test(large_lists_are_refused_unread),
        cmocka_unit_test(two_models_never_share_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
