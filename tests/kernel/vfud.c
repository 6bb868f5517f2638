/* vfud: the simulator's device model as real PCI devices of a virtual machine. A vfio-user server (protocol 0.0 and 0.1,
 * one thread and one socket per device); QEMU 10.1 or later connects with
 *     -device {"driver":"vfio-user-pci","socket":{"type":"unix","path":"DIR/18:00.0.sock"}}
 *
 *   vfud serve DIR            DIR/state and one socket per device; says "ready"
 *   vfud fault DIR BDF NAME VALUE, vfud mode DIR BDF, vfud resets DIR BDF      beside a running server
 *
 * Source of the protocol: QEMU, docs/interop/vfio-user.rst.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/model/model.h"

enum {
    C_VERSION = 1,
    C_DMA_MAP = 2,
    C_DMA_UNMAP = 3,
    C_GET_INFO = 4,
    C_GET_REGION_INFO = 5,
    C_GET_IRQ_INFO = 7,
    C_SET_IRQS = 8,
    C_REGION_READ = 9,
    C_REGION_WRITE = 10,
    C_RESET = 13,
};
enum { F_REPLY = 1, F_NOREPLY = 0x10, F_ERROR = 0x20 };
#define MAX_DATA (1u << 20)
#define CONFIG_SIZE 4096u

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

struct access {
    uint64_t offset;
    uint32_t region, count;
};

struct port {
    struct model *model;
    int hw, listener;
};

/* The test machine: one of each kind, at the addresses that QEMU's layout gives them in the guest. */
static const struct model_desc devices[] = {
    {.bdf = "0000:18:00.0", .vendor_id = 0x10de, .device_id = 0x2331, .class_code = 0x030200},
    {.bdf = "0000:19:00.0", .vendor_id = 0x10de, .device_id = 0x2330, .class_code = 0x030200},
    {.bdf = "0000:1a:00.0", .vendor_id = 0x10de, .device_id = 0x2901, .class_code = 0x030200},
    {.bdf = "0000:1b:00.0", .vendor_id = 0x10de, .device_id = 0x2bb5, .class_code = 0x030200},
    {.bdf = "0000:1c:00.0", .vendor_id = 0x10de, .device_id = 0x22a3, .class_code = 0x068000},
};

/* exactly n bytes; descriptors that come along are closed: the device does no DMA and raises no interrupt */
static int receive(int s, void *buf, size_t n)
{
    uint8_t *at = buf;
    while (n > 0) {
        char control[CMSG_SPACE(16 * sizeof(int))];
        struct iovec v = {at, n};
        struct msghdr m = {.msg_iov = &v,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
        ssize_t r = recvmsg(s, &m, MSG_CMSG_CLOEXEC);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return -1;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
            size_t fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; h->cmsg_type == SCM_RIGHTS && i < fds; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
                (void)close(fd);
            }
        }
        at += r;
        n -= (size_t)r;
    }
    return 0;
}

static void reply(int s, const struct header *request, int error, const void *a, size_t an,
                  const void *b, size_t bn)
{
    struct header h = {request->id, request->command, sizeof h, F_REPLY, 0};
    struct iovec v[3] = {{&h, sizeof h}, {(void *)(uintptr_t)a, an}, {(void *)(uintptr_t)b, bn}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
    if (request->flags & F_NOREPLY)
        return;
    if (error) {
        h.flags |= F_ERROR;
        h.error = (uint32_t)error;
        m.msg_iovlen = 1;
    } else {
        h.size += (uint32_t)(an + bn);
    }
    if (sendmsg(s, &m, MSG_NOSIGNAL) < 0)
        perror("vfud: sendmsg");
}

static uint64_t region_size(const struct port *p, uint32_t region)
{
    if (region == VFIO_PCI_CONFIG_REGION_INDEX)
        return CONFIG_SIZE;
    /* 64-bit BARs take two registers: region numbers are register numbers */
    return region < 6 ? model_bar(p->model, p->hw, (int)region).size : 0;
}

/* QEMU 11.1.3 aborts in device_del when the device has MSI-X: the PCIe capability is the last one of the list here */
static uint32_t without_msix(uint64_t at, uint32_t n, uint32_t v)
{
    return at <= 0x61 && at + n > 0x61 ? v & ~(0xffu << (8 * (0x61 - at))) : v;
}

static void transfer(const struct port *p, uint32_t region, uint64_t at, uint32_t n, uint8_t *data,
                     bool write)
{
    uint32_t v = 0;
    bool config = region == VFIO_PCI_CONFIG_REGION_INDEX;
    if (write) {
        memcpy(&v, data, n);
        if (config)
            (void)model_config_write(p->model, p->hw, (unsigned)at, n, v);
        else if (n == 4)
            model_bar_write(p->model, p->hw, (int)region, at, v);
        return;
    }
    if (config)
        v = without_msix(at, n, model_config_read(p->model, p->hw, (unsigned)at, n));
    else
        v = model_bar_read(p->model, p->hw, (int)region, at & ~3ull) >> (8 * (at & 3));
    memcpy(data, &v, n);
}

static int region_access(const struct port *p, const struct access *a, uint8_t *data, bool write)
{
    uint64_t size = region_size(p, a->region);
    if (a->count > size || a->offset > size - a->count)
        return -EINVAL;
    for (uint32_t i = 0; i < a->count;) {
        uint64_t at = a->offset + i;
        uint32_t left = a->count - i;
        uint32_t n = left >= 4 && !(at & 3) ? 4 : left >= 2 && !(at & 1) ? 2 : 1;
        transfer(p, a->region, at, n, data + i, write);
        i += n;
    }
    return 0;
}

static void do_access(const struct port *p, int s, const struct header *h, uint8_t *body, size_t n)
{
    struct access a = {0};
    bool write = h->command == C_REGION_WRITE;
    if (n >= sizeof a)
        memcpy(&a, body, sizeof a);
    if (n < sizeof a || a.count > MAX_DATA || (write && n - sizeof a < a.count)) {
        reply(s, h, EINVAL, NULL, 0, NULL, 0);
        return;
    }
    int r = region_access(p, &a, body + sizeof a, write);
    reply(s, h, -r, &a, sizeof a, body + sizeof a, write ? 0 : a.count);
}

static void do_region_info(const struct port *p, int s, const struct header *h, const uint8_t *body)
{
    struct vfio_region_info info = {.argsz = sizeof info};
    memcpy(&info.index, body + 8, sizeof info.index);
    info.size = region_size(p, info.index);
    info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
    reply(s, h, info.index < VFIO_PCI_NUM_REGIONS ? 0 : EINVAL, &info, sizeof info, NULL, 0);
}

static void do_irq_info(int s, const struct header *h, const uint8_t *body)
{
    uint32_t index;
    memcpy(&index, body + 8, sizeof index);
    uint32_t info[4] = {sizeof info, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, index,
                        index == VFIO_PCI_MSI_IRQ_INDEX};
    reply(s, h, 0, info, sizeof info, NULL, 0);
}

/* as the kernel does: answers only when the function answers again (QEMU reads the configuration right after) */
static void do_reset(const struct port *p)
{
    model_reset(p->model, p->hw, MODEL_RESET_FLR);
    for (int i = 0; i < 60000 && !model_config_ready(p->model, p->hw); i++)
        (void)nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void dispatch(const struct port *p, int s, const struct header *h, uint8_t *body, size_t n)
{
    static const char capabilities[] =
        "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":"
        "1048576,\"pgsizes\":4096,\"max_dma_maps\":65535}}";
    static const uint32_t info[4] = {sizeof info, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
                                     VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS};
    uint16_t version[2] = {0, n >= 4 && (body[2] || body[3])};
    switch (h->command) {
    case C_VERSION:
        reply(s, h, 0, version, sizeof version, capabilities, sizeof capabilities);
        return;
    case C_DMA_MAP:
        reply(s, h, 0, NULL, 0, NULL, 0);
        return;
    case C_DMA_UNMAP: /* the reply repeats the request */
        reply(s, h, 0, body, n < 24 ? n : 24, NULL, 0);
        return;
    case C_GET_INFO:
        reply(s, h, 0, info, sizeof info, NULL, 0);
        return;
    case C_GET_REGION_INFO:
        do_region_info(p, s, h, body);
        return;
    case C_GET_IRQ_INFO:
        do_irq_info(s, h, body);
        return;
    case C_SET_IRQS:
        reply(s, h, 0, NULL, 0, NULL, 0);
        return;
    case C_REGION_READ:
    case C_REGION_WRITE:
        do_access(p, s, h, body, n);
        return;
    case C_RESET:
        do_reset(p);
        reply(s, h, 0, NULL, 0, NULL, 0);
        return;
    default:
        reply(s, h, ENOTSUP, NULL, 0, NULL, 0);
    }
}

static void *port_main(void *arg)
{
    const struct port *p = arg;
    uint8_t *body = xcalloc(1, 2 * MAX_DATA);
    for (;;) {
        int s = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
        struct header h;
        while (s >= 0 && receive(s, &h, sizeof h) == 0) {
            if (h.size < sizeof h || h.size - sizeof h > MAX_DATA + 64 ||
                receive(s, body, h.size - sizeof h) < 0)
                break;
            dispatch(p, s, &h, body, h.size - sizeof h);
        }
        if (s >= 0)
            (void)close(s);
    }
    return NULL;
}

static int listen_at(const char *dir, const char *bdf)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int n = snprintf(at.sun_path, sizeof at.sun_path, "%s/%s.sock", dir, bdf + 5);
    if (n < 0 || (size_t)n >= sizeof at.sun_path)
        return -1;
    (void)unlink(at.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 4) < 0)
        return -1;
    return fd;
}

static int serve(const char *dir)
{
    static struct port ports[ARRAY_LEN(devices)];
    struct err err = ERR_INIT;
    struct model *model = NULL;
    AUTO_FREE char *state = xasprintf("%s/state", dir);
    if (model_create(state, &model, &err) < 0) {
        (void)fprintf(stderr, "vfud: %s\n", err.msg);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        struct model_desc desc = devices[i];
        desc.parent = -1;
        desc.revision = 0xa1;
        desc.subsystem_vendor_id = 0x10de;
        ports[i] = (struct port){model, model_add(model, &desc, &err), listen_at(dir, desc.bdf)};
        pthread_t thread;
        if (ports[i].hw < 0 || ports[i].listener < 0 ||
            pthread_create(&thread, NULL, port_main, &ports[i]) != 0) {
            (void)fprintf(stderr, "vfud: %s: %s\n", desc.bdf, err.code ? err.msg : "socket");
            return EXIT_FAILURE;
        }
    }
    (void)puts("ready");
    (void)fflush(stdout);
    for (;;)
        (void)pause();
}

static int look(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct model *model = NULL;
    AUTO_FREE char *state = xasprintf("%s/state", argv[2]);
    if (model_open(state, &model, &err) < 0) {
        (void)fprintf(stderr, "vfud: %s\n", err.msg);
        return EXIT_FAILURE;
    }
    int hw = model_find(model, argv[3]);
    int fault = argc == 6 ? model_fault_by_name(argv[4]) : -1;
    if (hw < 0 || (argc == 6 && fault < 0)) {
        (void)fprintf(stderr, "vfud: no such device or fault\n");
        return EXIT_FAILURE;
    }
    if (argc == 6)
        model_fault_set(model, hw, fault, (int)strtol(argv[5], NULL, 0));
    else if (strcmp(argv[1], "mode") == 0)
        (void)puts(model_mode_name(model_active(model, hw)));
    else
        (void)printf("%llu\n", (unsigned long long)model_counters(model, hw).resets);
    model_close(model);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2]);
    if ((argc == 6 && strcmp(argv[1], "fault") == 0) ||
        (argc == 4 && (strcmp(argv[1], "mode") == 0 || strcmp(argv[1], "resets") == 0)))
        return look(argc, argv);
    (void)fputs(
        "usage: vfud serve DIR | fault DIR BDF NAME VALUE | mode DIR BDF | resets DIR BDF\n",
        stderr);
    return 2;
}
