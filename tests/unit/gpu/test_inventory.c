/* sysfs into devices: what is ours, groups, hostile files. */
#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/gpu/inventory.h"

static struct nv_inventory inv;

static void scan(struct tree *t)
{
    struct err err = ERR_INIT;
    if (inventory_scan(&t->host, NULL, &inv, &err) < 0)
        fail_msg("%s", err.msg);
}

static void only_nvidia_gpus_and_switches(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    tree_device(t, "0000:c1:00.0", "0x10de\n", "0x22a3\n", "0x068000\n", 3);
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_device(t, "0000:18:00.1", "0x10de\n", "0x22ba\n", "0x040300\n", 1); /* audio */
    tree_device(t, "0000:19:00.0", "0x10de\n", "0x1ad8\n", "0x0c8000\n", 9); /* USB-C */
    tree_device(t, "0000:00:01.0", "0x8086\n", "0x352a\n", "0x060400\n", 2); /* bridge */
    tree_device(t, "0000:ac:00.0", "0x15b3\n", "0x1021\n", "0x020000\n", 4);
    tree_device(t, "0000:18:00.4", "0x10de\n", "0x2331\n", "0x030200\n", 5); /* virtual function */
    tree_link(t, "/sys/devices/pci0000:00/0000:18:00.4/physfn", "../0000:18:00.0");
    tree_device(t, "0001:01:00.0", "0x10de\n", "0x2342\n", "0x030200\n", 6);
    scan(t);
    assert_int_equal(inv.n, 3);
    assert_string_equal(inv.devices[0].bdf, "0000:18:00.0");
    assert_string_equal(inv.devices[1].bdf, "0000:c1:00.0");
    assert_string_equal(inv.devices[2].bdf, "0001:01:00.0");
    assert_string_equal(inv.devices[0].resource, "GH100_H100_PCIE");
    assert_string_equal(inv.devices[0].chip, "gh100");
    assert_int_equal(inv.devices[1].kind, NV_KIND_NVSWITCH);
    assert_string_equal(inv.devices[1].chip, "ls10");
    assert_string_equal(inv.devices[2].resource, "GH100_GH200_120GB___480GB");
    assert_string_equal(inv.devices[0].driver_override, "");
    assert_int_equal(inv.devices[0].n_companions, 1);
    assert_string_equal(inv.devices[0].companions[0].bdf, "0000:18:00.1");
    assert_true(inv.devices[0].group_viable);
    tree_free(t);
}

static void groups_and_drivers(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2bb5\n", "0x030000\n", 7);
    tree_device(t, "0000:18:00.1", "0x10de\n", "0x22e8\n", "0x040300\n", 7);
    tree_device(t, "0000:17:01.0", "0x8086\n", "0x352a\n", "0x060400\n",
                7); /* bridges do not matter */
    tree_driver(t, "0000:17:01.0", "pcieport");
    tree_driver(t, "0000:18:00.0", "vfio-pci");
    tree_driver(t, "0000:18:00.1", "snd_hda_intel");
    tree_file(t, "/dev/vfio/7", "");
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/vfio-dev/vfio3/dev", "252:3\n");
    scan(t);
    const struct nv_device *d = &inv.devices[0];
    assert_true(d->driver_is_vfio);
    assert_int_equal(d->iommu_group, 7);
    assert_true(d->group_node);
    assert_string_equal(d->cdev, ""); /* the directory alone means nothing (REF-L 6.1) */
    assert_false(d->group_viable);
    assert_string_equal(d->group_blocker, "0000:18:00.1 (snd_hda_intel)");
    tree_file(t, "/dev/vfio/devices/vfio3", "");
    tree_driver(t, "0000:18:00.1", "pci-stub");
    scan(t);
    assert_string_equal(d->cdev, "vfio3");
    assert_true(d->group_viable);
    tree_driver(t, "0000:18:00.0", "nvgrace-gpu-vfio-pci");
    tree_driver(t, "0000:18:00.1", "mlx5_vfio_pci");
    scan(t);
    assert_true(d->driver_is_vfio);
    assert_true(d->group_viable);
    tree_free(t);
}

static void no_iommu(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", -1);
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/numa_node", "-1\n");
    scan(t);
    assert_int_equal(inv.devices[0].iommu_group, -1);
    assert_int_equal(inv.devices[0].numa_node, -1);
    assert_false(inv.devices[0].group_viable);
    assert_string_equal(inv.devices[0].group_blocker, "no IOMMU group");
    tree_free(t);
}

/* What a file may hold instead of what belongs there. */
static const char *const garbage[] = {"",
                                      "\n",
                                      "0x",
                                      "10de",
                                      "0xzz\n",
                                      "0x10de0x10de\n",
                                      "-1",
                                      "\xff\xfe",
                                      "../../x",
                                      "0xffffffffffffffffffff\n",
                                      "(null)",
                                      " ",
                                      "0x10de 0x2331\n"};

static void garbage_is_never_believed(void **state)
{
    (void)state;
    static const char *const files[] = {"vendor",    "device",          "class",
                                        "numa_node", "driver_override", "enable"};
    char path[128];
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        struct tree *t = tree_new();
        tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
        tree_device(t, "0000:19:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 2);
        (void)snprintf(path, sizeof path, "/sys/devices/pci0000:00/0000:18:00.0/%s", files[f]);
        for (size_t g = 0; g < ARRAY_LEN(garbage); g++) {
            tree_file(t, path, garbage[g]);
            scan(t);
            if (f < 3) { /* without these nobody can tell what it is */
                assert_int_equal(inv.n, 1);
                assert_string_equal(inv.devices[0].bdf, "0000:19:00.0");
                assert_int_equal(inv.n_unreadable, 1);
                assert_non_null(strstr(inv.unreadable, "0000:18:00.0"));
            } else {
                assert_int_equal(inv.n, 2);
            }
        }
        tree_remove(t, path); /* missing altogether */
        scan(t);
        assert_int_equal(inv.n, f < 3 ? 1 : 2);
        tree_free(t);
    }
}

static void odd_entries(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct nv_device dev = {0};
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_link(t, "/sys/bus/pci/devices/0000:19:00.0", "../../../devices/nowhere"); /* just gone */
    tree_file(t, "/sys/bus/pci/devices/README", "hello");
    tree_link(t, "/sys/bus/pci/devices/0000:1a:00.0", "../../../../../../etc");
    tree_link(t, "/sys/devices/pci0000:00/0000:18:00.0/iommu_group",
              "../../../kernel/iommu_groups/1x");
    tree_link(t, "/sys/devices/pci0000:00/0000:18:00.0/driver", "..");
    scan(t);
    assert_int_equal(inv.n, 1);
    assert_int_equal(inv.devices[0].iommu_group, -1);
    assert_string_equal(inv.devices[0].driver, "");
    assert_int_equal(inventory_read(&t->host, "0000:19:00.0", &dev, &err), -ENODEV);
    assert_int_equal(inventory_read(&t->host, "0000:20:00.0", &dev, &err), -ENODEV);
    assert_int_equal(inventory_read(&t->host, "../0000:18:00.0", &dev, &err), -EINVAL);
    assert_int_equal(inventory_read(&t->host, "0000:18:00.0", &dev, &err), 0);
    tree_free(t);
}

static void too_many_devices_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char bdf[16];
    struct tree *t = tree_new();
    for (int i = 0; i <= NV_MAX_DEVICES; i++) {
        (void)snprintf(bdf, sizeof bdf, "0000:%02x:00.0", i);
        tree_device(t, bdf, "0x10de\n", "0x2331\n", "0x030200\n", i);
    }
    assert_int_equal(inventory_scan(&t->host, NULL, &inv, &err), -E2BIG);
    tree_free(t);
}

static void no_bus_at_all(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tree *t = tree_new();
    assert_int_equal(inventory_scan(&t->host, NULL, &inv, &err), -ENOENT);
    tree_dir(t, "/sys/bus/pci/devices");
    assert_int_equal(inventory_scan(&t->host, NULL, &inv, &err), 0);
    assert_int_equal(inv.n, 0);
    tree_free(t);
}

static void facts_of_the_host(void **state)
{
    (void)state;
    struct host_facts f;
    struct tree *t = tree_new();
    host_facts_read(&t->host, &f);
    assert_false(f.snp || f.tdx || f.iommu);
    assert_string_equal(f.lockdown, "");
    assert_string_equal(f.boot_id, "");
    tree_file(t, "/sys/module/kvm_amd/parameters/sev_snp", "Y\n");
    tree_file(t, "/sys/module/kvm_intel/parameters/tdx", "N\n");
    tree_file(t, "/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    tree_file(t, "/proc/sys/kernel/random/boot_id", "c0ffee00-1111-2222-3333-444455556666\n");
    tree_file(t, "/proc/sys/kernel/osrelease", "6.12.0-sim\n");
    tree_dir(t, "/sys/kernel/iommu_groups");
    host_facts_read(&t->host, &f);
    assert_true(f.snp);
    assert_false(f.tdx);
    assert_false(f.iommu);
    assert_string_equal(f.lockdown, "integrity");
    assert_string_equal(f.boot_id, "c0ffee00-1111-2222-3333-444455556666");
    char release[64];
    host_release(&t->host, release, sizeof release);
    assert_string_equal(release, "6.12.0-sim");
    tree_dir(t, "/sys/kernel/iommu_groups/0");
    tree_file(t, "/sys/kernel/security/lockdown", "garbage");
    tree_file(t, "/sys/module/kvm_amd/parameters/sev_snp", "maybe");
    host_facts_read(&t->host, &f);
    assert_true(f.iommu);
    assert_false(f.snp);
    assert_string_equal(f.lockdown, "");
    tree_free(t);
}

static void scan_again(struct tree *t, struct pci_functions *memory)
{
    struct err err = ERR_INIT;
    if (inventory_scan(&t->host, memory, &inv, &err) < 0)
        fail_msg("%s", err.msg);
}

/* What a function is, is read once in its life; where it is bound, at every scan. */
static void memory_of_what_cannot_change(void **state)
{
    (void)state;
    struct pci_functions memory = {0};
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_device(t, "0000:18:00.1", "0x10de\n", "0x22ba\n", "0x040300\n", 1);
    tree_device(t, "0000:ac:00.0", "0x15b3\n", "0x1021\n", "0x020000\n", 4);
    scan_again(t, &memory);
    assert_int_equal(inv.n, 1);
    static const char *const fixed[] = {"vendor", "device", "class", "numa_node"};
    static const char *const bdfs[] = {"0000:18:00.0", "0000:18:00.1", "0000:ac:00.0"};
    for (size_t i = 0; i < ARRAY_LEN(fixed) * ARRAY_LEN(bdfs); i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "/sys/devices/pci0000:00/%s/%s",
                       bdfs[i / ARRAY_LEN(fixed)], fixed[i % ARRAY_LEN(fixed)]);
        tree_remove(t, path); /* whoever reads it now is seen */
    }
    tree_driver(t, "0000:18:00.0", "vfio-pci");
    tree_driver(t, "0000:18:00.1", "snd_hda_intel");
    scan_again(t, &memory);
    assert_int_equal(inv.n, 1);
    assert_int_equal(inv.n_unreadable, 0);
    assert_int_equal(inv.devices[0].device_id, 0x2331);
    assert_string_equal(inv.devices[0].resource, "GH100_H100_PCIE");
    assert_int_equal(inv.devices[0].numa_node, 0);
    assert_string_equal(inv.devices[0].driver, "vfio-pci");
    assert_int_equal(inv.devices[0].n_companions, 1);
    assert_string_equal(inv.devices[0].companions[0].driver, "snd_hda_intel");
    assert_int_equal(inv.devices[0].companions[0].class_code, 0x040300);
    assert_false(inv.devices[0].group_viable);
    functions_done(&memory);
    tree_free(t);
}

/* The same for one device at a time; another one at its address is read anew. */
static void a_device_read_again_is_the_same_or_another(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct nv_device dev = {0}, other;
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_device(t, "0000:2a:00.0", "0x10de\n", "0x2330\n", "0x030200\n", 2);
    assert_int_equal(inventory_read(&t->host, "0000:18:00.0", &dev, &err), 0);
    tree_remove(t, "/sys/devices/pci0000:00/0000:18:00.0/device");
    tree_driver(t, "0000:18:00.0", "vfio-pci");
    assert_int_equal(inventory_read(&t->host, "0000:18:00.0", &dev, &err), 0);
    assert_int_equal(dev.device_id, 0x2331);
    assert_string_equal(dev.resource, "GH100_H100_PCIE");
    assert_string_equal(dev.driver, "vfio-pci");
    other = dev;
    assert_int_equal(inventory_read(&t->host, "0000:2a:00.0", &other, &err), 0);
    assert_int_equal(other.device_id, 0x2330);
    AUTO_FREE char *path = xasprintf("%s/sys/devices/pci0000:00/0000:18:00.0", t->root);
    AUTO_FREE char *away = xasprintf("%s/sys/devices/pci0000:00/gone", t->root);
    assert_int_equal(rename(path, away), 0); /* kept, so that its inode is not used again */
    tree_remove(t, "/sys/bus/pci/devices/0000:18:00.0");
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2335\n", "0x030200\n", 1);
    assert_int_equal(inventory_read(&t->host, "0000:18:00.0", &dev, &err), 0);
    assert_int_equal(dev.device_id, 0x2335);
    tree_free(t);
}

static void replace_link(struct tree *t, const char *bdf, const char *to)
{
    AUTO_FREE char *from = xasprintf("/sys/bus/pci/devices/%s", bdf);
    AUTO_FREE char *fresh = xasprintf("/sys/bus/pci/new-%s", bdf);
    AUTO_FREE char *old_path = xasprintf("%s%s", t->root, fresh);
    AUTO_FREE char *new_path = xasprintf("%s%s", t->root, from);
    tree_link(t, fresh, to); /* while the old one is there: another inode */
    assert_int_equal(rename(old_path, new_path), 0);
}

static void memory_ends_with_the_function(void **state)
{
    (void)state;
    struct pci_functions memory = {0};
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_device(t, "0000:19:00.0", "0x8086\n", "0x1234\n", "0x020000\n", 2);
    tree_device(t, "0000:1a:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 3);
    scan_again(t, &memory);
    assert_int_equal(inv.n, 2);
    tree_remove(t, "/sys/bus/pci/devices/0000:1a:00.0");
    scan_again(t, &memory);
    assert_int_equal(inv.n, 1);

    /* others in their slots */
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.0/device", "0x2336\n");
    tree_file(t, "/sys/devices/pci0000:00/0000:19:00.0/vendor", "0x10de\n");
    tree_file(t, "/sys/devices/pci0000:00/0000:19:00.0/device", "0x22a3\n");
    tree_file(t, "/sys/devices/pci0000:00/0000:19:00.0/class", "0x068000\n");
    scan_again(t, &memory);
    assert_int_equal(inv.n, 1);
    assert_int_equal(inv.devices[0].device_id, 0x2331);
    replace_link(t, "0000:18:00.0", "../../../devices/pci0000:00/0000:18:00.0");
    replace_link(t, "0000:19:00.0", "../../../devices/pci0000:00/0000:19:00.0");
    scan_again(t, &memory);
    assert_int_equal(inv.n, 2);
    assert_int_equal(inv.devices[0].device_id, 0x2336);
    assert_int_equal(inv.devices[1].device_id, 0x22a3);

    /* another function comes into a group that was read before */
    tree_device(t, "0000:18:00.1", "0x10de\n", "0x22ba\n", "0x040300\n", 1);
    tree_driver(t, "0000:18:00.1", "snd_hda_intel");
    scan_again(t, &memory);
    assert_int_equal(inv.devices[0].n_companions, 1);
    assert_false(inv.devices[0].group_viable);

    /* what could not be read is read again */
    tree_remove(t, "/sys/devices/pci0000:00/0000:18:00.1/class");
    replace_link(t, "0000:18:00.1", "../../../devices/pci0000:00/0000:18:00.1");
    scan_again(t, &memory);
    assert_non_null(strstr(inv.devices[0].group_blocker, "unreadable"));
    tree_file(t, "/sys/devices/pci0000:00/0000:18:00.1/class", "0x040300\n");
    scan_again(t, &memory);
    assert_non_null(strstr(inv.devices[0].group_blocker, "snd_hda_intel"));
    functions_done(&memory);
    tree_free(t);
}

static void character_device_with_memory(void **state)
{
    (void)state;
    struct pci_functions memory = {0};
    struct tree *t = tree_new();
    tree_device(t, "0000:18:00.0", "0x10de\n", "0x2331\n", "0x030200\n", 1);
    tree_driver(t, "0000:18:00.0", "vfio-pci");
    tree_dir(t, "/sys/devices/pci0000:00/0000:18:00.0/vfio-dev/vfio3");
    tree_file(t, "/dev/vfio/devices/vfio3", "");
    for (int i = 0; i < 2; i++) {
        scan_again(t, &memory);
        assert_string_equal(inv.devices[0].cdev, "vfio3");
    }
    tree_remove(t, "/dev/vfio/devices/vfio3");
    scan_again(t, &memory);
    assert_string_equal(inv.devices[0].cdev, "");
    tree_file(t, "/dev/vfio/devices/vfio3", "");
    scan_again(t, &memory);
    tree_remove(t, "/sys/devices/pci0000:00/0000:18:00.0/vfio-dev/vfio3");
    tree_dir(t, "/sys/devices/pci0000:00/0000:18:00.0/vfio-dev/vfio5");
    tree_file(t, "/dev/vfio/devices/vfio5", "");
    scan_again(t, &memory);
    assert_string_equal(inv.devices[0].cdev, "vfio5");
    functions_done(&memory);
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_nvidia_gpus_and_switches),
        cmocka_unit_test(groups_and_drivers),
        cmocka_unit_test(no_iommu),
        cmocka_unit_test(garbage_is_never_believed),
        cmocka_unit_test(odd_entries),
        cmocka_unit_test(too_many_devices_are_refused),
        cmocka_unit_test(no_bus_at_all),
        cmocka_unit_test(facts_of_the_host),
        cmocka_unit_test(memory_of_what_cannot_change),
        cmocka_unit_test(a_device_read_again_is_the_same_or_another),
        cmocka_unit_test(memory_ends_with_the_function),
        cmocka_unit_test(character_device_with_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
