/* A VFIO device file: its ioctls, its resets, reading, writing and mapping its regions. */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "simulator/trap/vfio.h"

#define REGION_SHIFT 40 /* Linux include/linux/vfio_pci_core.h: VFIO_PCI_OFFSET_SHIFT */
#define READY_MS 65536u /* pci_dev_wait() gives up then */
#define METHODS 3u      /* FLR once, bus reset twice: so long a dead device blocks (seen: 210 s) */
/* newer than Debian 12's headers; Linux include/uapi/linux/vfio.h */
#define ATTACH_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#define DETACH_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

static void sleep_scaled(uint32_t ms)
{
    int64_t ns = model_scaled_ns(trap_model, ms);
    struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* what Linux waits for after an FLR. Return: false when the device did not come back. */
bool wait_ready(int hw)
{
    sleep_scaled(model_delay(trap_model, MODEL_DELAY_FLR));
    for (uint32_t waited = 0, pause = 1; !model_config_ready(trap_model, hw); pause *= 2) {
        if (waited > METHODS * READY_MS)
            return false;
        sleep_scaled(pause);
        waited += pause;
    }
    return true;
}
static int region_info(int hw, struct vfio_region_info *info)
{
    if (info->argsz < sizeof *info || info->index >= VFIO_PCI_NUM_REGIONS)
        return fail(EINVAL);
    info->offset = (uint64_t)info->index << REGION_SHIFT;
    info->cap_offset = info->flags = 0;
    info->size = 0;
    if (info->index == VFIO_PCI_CONFIG_REGION_INDEX) {
        info->size = 4096;
        info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    } else if (info->index <= VFIO_PCI_BAR5_REGION_INDEX) {
        info->size = model_bar(trap_model, hw, (int)info->index).size;
        if (info->size)
            info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                          VFIO_REGION_INFO_FLAG_MMAP;
    }
    return 0;
}

static int device_reset(int vfio)
{
    const struct handle *h = vfio_handle(vfio);
    /* an unbind or remove holds the device lock while it waits for us */
    if (!on_vfio(h->root, model_desc(trap_model, h->hw)->bdf))
        return fail(EAGAIN);
    model_vfio_reset(trap_model, h->hw);
    if (!wait_ready(h->hw))
        return fail(ENOTTY);
    regions_mend(vfio);
    return 0;
}

/* everything below the device's bridge, as a bus reset hits it */
static bool shares_bus(int hw, int other)
{
    const struct model_desc *a = model_desc(trap_model, hw), *b = model_desc(trap_model, other);
    return hw == other || (a->parent >= 0 && a->parent == b->parent);
}

static int hot_reset_info(const struct handle *h, struct vfio_pci_hot_reset_info *info)
{
    uint32_t n = 0;
    size_t room =
        info->argsz < sizeof *info ? 0 : (info->argsz - sizeof *info) / sizeof *info->devices;
    if (info->argsz < sizeof *info)
        return fail(EINVAL);
    for (int hw = 0; hw < model_count(trap_model); hw++) {
        unsigned segment = 0, bus = 0, slot = 0, function = 0;
        const char *bdf = model_desc(trap_model, hw)->bdf;
        if (!shares_bus(h->hw, hw) ||
            sscanf(bdf, "%x:%x:%x.%x", &segment, &bus, &slot, &function) != 4)
            continue;
        if (n < room)
            info->devices[n] =
                (struct vfio_pci_dependent_device){.group_id = group_of(h->root, bdf),
                                                   .segment = (uint16_t)segment,
                                                   .bus = (uint8_t)bus,
                                                   .devfn = (uint8_t)(slot << 3 | function)};
        n++;
    }
    info->flags = 0;
    info->count = n;
    return n > room ? fail(ENOSPC) : 0;
}

/* The caller must hold the groups of all it would reset (Linux vfio_pci_core.c: EINVAL). */
static int hot_reset(int vfio, const struct vfio_pci_hot_reset *arg)
{
    const struct handle *h = vfio_handle(vfio);
    struct model_saved saved[MODEL_MAX_DEVICES];
    if (arg->argsz < sizeof *arg || arg->flags || arg->count == 0 || arg->count > MODEL_MAX_DEVICES)
        return fail(EINVAL);
    for (int hw = 0; hw < model_count(trap_model); hw++) {
        bool ours = !shares_bus(h->hw, hw);
        const char *bdf = model_desc(trap_model, hw)->bdf;
        for (uint32_t i = 0; i < arg->count && !ours; i++) {
            struct file_id id;
            ours = identify(arg->group_fds[i], &id) && id.kind == FILE_GROUP &&
                   in_group(id.root, id.number, bdf);
        }
        if (!ours)
            return fail(EINVAL);
        if (shares_bus(h->hw, hw))
            model_config_save(trap_model, hw, &saved[hw]);
    }
    model_reset(trap_model, h->hw, MODEL_RESET_SBR);
    bool ready = wait_ready(h->hw);
    for (int hw = 0; hw < model_count(trap_model) && ready; hw++)
        if (shares_bus(h->hw, hw))
            model_config_restore(trap_model, hw, &saved[hw]);
    regions_mend(vfio);
    return ready ? 0 : fail(ENOTTY);
}

int device_ioctl(int vfio, unsigned long request, void *arg)
{
    int hw = vfio_hw(vfio);
    switch (request) {
    case VFIO_DEVICE_GET_INFO: {
        struct vfio_device_info *info = arg;
        if (info->argsz < 16)
            return fail(EINVAL);
        info->flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
        info->num_regions = VFIO_PCI_NUM_REGIONS;
        info->num_irqs = VFIO_PCI_NUM_IRQS;
        return 0;
    }
    case VFIO_DEVICE_GET_REGION_INFO:
        return region_info(hw, arg);
    case VFIO_DEVICE_GET_IRQ_INFO: {
        struct vfio_irq_info *info = arg;
        if (info->argsz < sizeof *info || info->index >= VFIO_PCI_NUM_IRQS)
            return fail(EINVAL);
        info->flags = VFIO_IRQ_INFO_EVENTFD;
        info->count =
            info->index == VFIO_PCI_REQ_IRQ_INDEX || info->index == VFIO_PCI_MSI_IRQ_INDEX;
        return 0;
    }
    case VFIO_DEVICE_SET_IRQS: /* accepted; no simulated device interrupts */
        return 0;
    case VFIO_DEVICE_RESET:
        return device_reset(vfio);
    case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
        return hot_reset_info(vfio_handle(vfio), arg);
    case VFIO_DEVICE_PCI_HOT_RESET:
        return hot_reset(vfio, arg);
    case ATTACH_PT:
    case DETACH_PT:
        return 0;
    default:
        return fail(ENOTTY);
    }
}
void *vfio_map(int vfio, void *addr, size_t length, int flags, uint64_t offset)
{
    uint64_t index = offset >> REGION_SHIFT, at = offset & ((1ull << REGION_SHIFT) - 1);
    int hw = vfio_hw(vfio);
    uint64_t size =
        index <= VFIO_PCI_BAR5_REGION_INDEX ? model_bar(trap_model, hw, (int)index).size : 0;
    if (!(flags & MAP_SHARED) || length == 0 || at >= size || length > size - at) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    model_vfio_claim(trap_model, hw);
    struct region what = {.offset = at, .hw = hw, .bar = (int)index, .vfio = vfio};
    return region_map(addr, length, flags, &what);
}
/* --- reads and writes of the device file ------------------------------------------------------------------------------- */

static unsigned piece(uint64_t at, size_t left)
{
    return at % 4 == 0 && left >= 4 ? 4 : at % 2 == 0 && left >= 2 ? 2 : 1;
}

static ssize_t config_access(int hw, void *buf, size_t n, uint64_t at, bool write)
{
    size_t done = 0;
    if (at >= 4096)
        return fail(EINVAL);
    n = n < 4096 - at ? n : 4096 - at;
    for (unsigned chunk; done < n; done += chunk) {
        uint32_t v = 0;
        chunk = piece(at + done, n - done);
        if (write) {
            memcpy(&v, (char *)buf + done, chunk);
            (void)model_config_write(trap_model, hw, (unsigned)(at + done), chunk, v);
        } else {
            v = model_config_read(trap_model, hw, (unsigned)(at + done), chunk);
            memcpy((char *)buf + done, &v, chunk);
        }
    }
    return (ssize_t)n;
}

ssize_t device_access(int vfio, void *buf, size_t n, uint64_t offset, bool write)
{
    uint64_t index = offset >> REGION_SHIFT, at = offset & ((1ull << REGION_SHIFT) - 1);
    int hw = vfio_hw(vfio);
    if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
        ssize_t r = config_access(hw, buf, n, at, write);
        if (write && model_config_read(trap_model, hw, 4, 2) & 2)
            regions_mend(vfio);
        return r;
    }
    uint64_t size =
        index <= VFIO_PCI_BAR5_REGION_INDEX ? model_bar(trap_model, hw, (int)index).size : 0;
    if (at >= size)
        return fail(EINVAL);
    if (!(model_config_read(trap_model, hw, 4, 2) & 2))
        return fail(EIO);
    model_vfio_claim(trap_model, hw);
    n = n < size - at ? n : size - at;
    for (size_t done = 0; done < n;) {
        unsigned chunk = piece(at + done, n - done);
        if (write)
            device_write(hw, (int)index, at + done, (char *)buf + done, chunk);
        else
            device_read(hw, (int)index, at + done, (char *)buf + done, chunk);
        done += chunk;
    }
    return (ssize_t)n;
}
