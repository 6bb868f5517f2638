/* vp: does one thing after another with a PCI device, through VFIO and sysfs, and says what the kernel answered.
 *
 *   vp BDF WORD[=ARGUMENT[,TEXT]]…
 *
 * Each word prints one line: "ok …" or the errno name, and how long it took. A word that dies by SIGBUS or SIGSEGV says so,
 * and the next one goes on. Words: the table at the end. Built static for the guest, dynamic for the simulated node's trap.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/vfio.h>

static const char *bdf, *word; /* of the command line */
static int container = -1, group = -1, device = -1, resource = -1;
static uint64_t region_offset[VFIO_PCI_NUM_REGIONS];
static uint64_t region_size[VFIO_PCI_NUM_REGIONS];
static volatile uint8_t *vfio_map, *sysfs_map;
static size_t sysfs_map_size;
static sigjmp_buf survived;
static double began;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_fault(int signo)
{
    siglongjmp(survived, signo);
}

/* one line; good answers with fmt, bad ones with the name of errno */
__attribute__((format(printf, 3, 4))) static void say(const char *what, int good, const char *fmt,
                                                      ...)
{
    int code = errno;
    va_list args;
    va_start(args, fmt);
    printf("%s: ", what);
    if (good) {
        printf("ok ");
        vprintf(fmt, args);
    } else {
        printf("%s", strerrorname_np(code));
    }
    printf("  (%.1f ms)\n", (now() - began) * 1e3);
    va_end(args);
}

static char *attribute(char *path, size_t room, const char *name)
{
    if (name[0] == '/')
        snprintf(path, room, "%s", name);
    else
        snprintf(path, room, "/sys/bus/pci/devices/%s/%s", bdf, name);
    return path;
}

/* ---- VFIO by group ---- */

static void do_container(uint64_t at, char *text)
{
    (void)at, (void)text;
    container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    int api = ioctl(container, VFIO_GET_API_VERSION);
    say("open /dev/vfio/vfio", container >= 0, "api %d type1v2 %d", api,
        ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU));
}

static void do_group(uint64_t at, char *text)
{
    (void)at, (void)text;
    char path[300], link[256] = "", node[280];
    ssize_t n = readlink(attribute(path, sizeof path, "iommu_group"), link, sizeof link - 1);
    link[n > 0 ? n : 0] = 0;
    snprintf(node, sizeof node, "/dev/vfio/%s", n > 0 ? strrchr(link, '/') + 1 : "none");
    group = open(node, O_RDWR | O_CLOEXEC);
    struct vfio_group_status status = {.argsz = sizeof status};
    int code = errno;
    if (group >= 0)
        (void)ioctl(group, VFIO_GROUP_GET_STATUS, &status);
    errno = code;
    say(node, group >= 0, "%s", status.flags & VFIO_GROUP_FLAGS_VIABLE ? "viable" : "not viable");
}

static void do_set_container(uint64_t at, char *text)
{
    (void)at, (void)text;
    say("SET_CONTAINER", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0, "%s", "");
}

static void do_set_iommu(uint64_t at, char *text)
{
    (void)at, (void)text;
    say("SET_IOMMU type1v2", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0, "%s", "");
}

static void do_device(uint64_t at, char *text)
{
    (void)at, (void)text;
    int fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
    if (fd >= 0)
        device = fd;
    say("GET_DEVICE_FD", fd >= 0, "%s", "fd");
}

static void do_info(uint64_t at, char *text)
{
    (void)at, (void)text;
    struct vfio_device_info info = {.argsz = sizeof info};
    int r = ioctl(device, VFIO_DEVICE_GET_INFO, &info);
    say("GET_INFO", r == 0, "flags %#x regions %u irqs %u", info.flags, info.num_regions,
        info.num_irqs);
    for (uint32_t i = 0; r == 0 && i < info.num_regions && i < VFIO_PCI_NUM_REGIONS; i++) {
        struct vfio_region_info region = {.argsz = sizeof region, .index = i};
        if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) != 0 || region.size == 0)
            continue;
        region_offset[i] = region.offset;
        region_size[i] = region.size;
        printf("region %u: size %#llx offset %#llx flags %#x\n", i, (unsigned long long)region.size,
               (unsigned long long)region.offset, region.flags);
    }
}

static void do_pread(uint64_t at, char *text)
{
    (void)text;
    uint32_t v = 0;
    say(word, pread(device, &v, 4, (off_t)(region_offset[0] + at)) == 4, "%08x", v);
}

static void do_map(uint64_t at, char *text)
{
    (void)at, (void)text;
    void *p = mmap(NULL, region_size[0], PROT_READ | PROT_WRITE, MAP_SHARED, device,
                   (off_t)region_offset[0]);
    if (p != MAP_FAILED)
        vfio_map = p;
    say("mmap BAR0 of the device fd", p != MAP_FAILED, "%s", "");
}

static void do_map_read(uint64_t at, char *text)
{
    (void)text;
    uint32_t v = *(volatile uint32_t *)(vfio_map + at);
    say(word, 1, "%08x", v);
}

static void do_reset(uint64_t at, char *text)
{
    (void)at, (void)text;
    say("VFIO_DEVICE_RESET", ioctl(device, VFIO_DEVICE_RESET) == 0, "%s", "");
}

static void do_close_device(uint64_t at, char *text)
{
    (void)at, (void)text;
    int r = close(device);
    device = -1;
    say("close device fd", r == 0, "%s", "");
}

static void do_close(uint64_t at, char *text)
{
    (void)at, (void)text;
    if (vfio_map)
        munmap((void *)(uintptr_t)vfio_map, region_size[0]);
    vfio_map = NULL;
    int *fds[] = {&device, &group, &container};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    say("close all", 1, "%s", "");
}

/* ---- sysfs ---- */

static void do_open_resource(uint64_t at, char *text)
{
    (void)at, (void)text;
    char path[300];
    resource = open(attribute(path, sizeof path, "resource0"), O_RDWR | O_SYNC | O_CLOEXEC);
    say("open resource0", resource >= 0, "%s", "");
}

static void do_map_resource(uint64_t at, char *text)
{
    (void)at, (void)text;
    struct stat st = {0};
    (void)fstat(resource, &st);
    sysfs_map_size = (size_t)st.st_size;
    void *p = mmap(NULL, sysfs_map_size, PROT_READ | PROT_WRITE, MAP_SHARED, resource, 0);
    if (p != MAP_FAILED)
        sysfs_map = p;
    say("mmap resource0", p != MAP_FAILED, "%zu bytes", sysfs_map_size);
}

static void do_pread_resource(uint64_t at, char *text)
{
    (void)at, (void)text;
    uint32_t v = 0;
    say("pread resource0", pread(resource, &v, 4, 0) == 4, "%08x", v);
}

static void do_read_resource(uint64_t at, char *text)
{
    (void)text;
    uint32_t v = *(volatile uint32_t *)(sysfs_map + at);
    say(word, 1, "%08x", v);
}

static void do_unmap_resource(uint64_t at, char *text)
{
    (void)at, (void)text;
    if (sysfs_map)
        munmap((void *)(uintptr_t)sysfs_map, sysfs_map_size);
    sysfs_map = NULL;
    close(resource);
    resource = -1;
}

/* sr=FILE */
static void do_show(uint64_t at, char *text)
{
    (void)at;
    char path[300], buf[300] = "";
    int fd = open(attribute(path, sizeof path, text), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    buf[strcspn(buf, "\n")] = 0;
    say(word, n >= 0, "'%s'", buf);
    if (fd >= 0)
        close(fd);
}

/* sw=FILE,TEXT */
static void do_store(uint64_t at, char *text)
{
    (void)at;
    char path[300], *comma = strchr(text, ',');
    const char *value = comma ? comma + 1 : "";
    if (comma)
        *comma = 0;
    int fd = open(attribute(path, sizeof path, text), O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
    say(word, n >= 0, "%zd", n);
    if (fd >= 0)
        close(fd);
}

/* sleep=SECONDS, without leaving the holder's hands */
static void do_sleep(uint64_t at, char *text)
{
    (void)text;
    struct timespec t = {(time_t)at, 0};
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* until=FILE: says nothing, makes FILE.here, goes on when FILE is there */
static void do_until(uint64_t at, char *text)
{
    char here[300];
    (void)at;
    snprintf(here, sizeof here, "%s.here", text);
    int fd = open(here, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    while (access(text, F_OK) < 0)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
}

static const struct {
    const char *name;
    void (*run)(uint64_t at, char *text);
} words[] = {
    {"cont", do_container},
    {"group", do_group},
    {"setc", do_set_container},
    {"iommu", do_set_iommu},
    {"dev", do_device},
    {"info", do_info},
    {"rd", do_pread},
    {"map", do_map},
    {"mrd", do_map_read},
    {"reset", do_reset},
    {"closedev", do_close_device},
    {"close", do_close},
    {"sopen", do_open_resource},
    {"smap", do_map_resource},
    {"spread", do_pread_resource},
    {"srd", do_read_resource},
    {"sunmap", do_unmap_resource},
    {"sr", do_show},
    {"sw", do_store},
    {"sleep", do_sleep},
    {"until", do_until},
};

static size_t find(const char *name, size_t n)
{
    size_t i = 0;
    while (i < sizeof words / sizeof words[0] &&
           (strlen(words[i].name) != n || strncmp(words[i].name, name, n) != 0))
        i++;
    return i;
}

static int run(char *argument)
{
    char *text = strchr(argument, '=');
    const size_t n = text ? (size_t)(text - argument) : strlen(argument);
    static size_t i; /* static: kept over the jump */
    i = find(argument, n);
    if (i == sizeof words / sizeof words[0]) {
        fprintf(stderr, "vp: no word %s\n", argument);
        return -1;
    }
    began = now();
    int signo = sigsetjmp(survived, 1);
    if (signo)
        printf("%s: killed by signal %d (%s)\n", word, signo, sigabbrev_np(signo));
    else
        words[i].run(text ? strtoull(text + 1, NULL, 0) : 0, text ? text + 1 : argument + n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: vp BDF WORD[=ARGUMENT[,TEXT]]...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGBUS, on_fault);
    signal(SIGSEGV, on_fault);
    bdf = argv[1];
    for (int i = 2; i < argc; i++) {
        char *copy = strdup(argv[i]);
        word = argv[i];
        if (!copy || run(copy) < 0)
            return 2;
        free(copy);
    }
    return 0;
}
