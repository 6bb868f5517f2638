/* Mapping device memory: mmap and munmap, and the table the fault handler looks into. */
#include "simulator/trap/trap.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u

struct model *trap_model;
static struct region regions[TRAP_REGIONS];
static int empty_file = -1;

void *real_symbol(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort(); /* a C library without it */
    return p;
}

__attribute__((constructor)) static void start(void)
{
    struct err err = ERR_INIT;
    const char *path = getenv("CCNODE_SIM_STATE");
    if (!path || !*path)
        return;
    if (model_open(path, &trap_model, &err) < 0) {
        (void)dprintf(STDERR_FILENO, "ccnode-sim trap: %s: no simulated devices for this program\n",
                      err.msg);
        trap_model = NULL;
        return;
    }
    for (int hw = 0; hw < model_count(trap_model);
         hw++) /* what this process had open before exec */
        model_vfio_forget(trap_model, hw, getpid());
    faults_install();
}

bool identify(int fd, struct file_id *ret)
{
    char link[32];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return identify_link(trap_model, link, ret);
}

static void *raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

/* --- table ------------------------------------------------------------------------------------------------------ */

const struct region *region_at(uintptr_t addr)
{
    for (int i = 0; i < TRAP_REGIONS; i++) {
        uintptr_t start = __atomic_load_n(&regions[i].start, __ATOMIC_ACQUIRE);
        if (start && addr >= start && addr - start < regions[i].length)
            return &regions[i];
    }
    return NULL;
}

static struct region *claim(void)
{
    for (int i = 0; i < TRAP_REGIONS; i++) {
        uintptr_t none = 0;
        /* 1 is no page's address: the entry is taken, and matches nothing */
        if (__atomic_compare_exchange_n(&regions[i].start, &none, 1, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            regions[i].length = 0;
            return &regions[i];
        }
    }
    return NULL;
}

void *region_map(void *addr, size_t length, int flags, const struct region *what)
{
    struct region *r = claim();
    if (!r) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    int anonymous =
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE));
    void *p = raw_mmap(addr, length, PROT_NONE, anonymous, -1, 0);
    if (p == MAP_FAILED) {
        __atomic_store_n(&r->start, 0, __ATOMIC_RELEASE);
        return p;
    }
    r->offset = what->offset;
    r->hw = what->hw;
    r->bar = what->bar;
    r->generation = what->generation;
    r->vfio = what->vfio;
    r->hole = false;
    r->length = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
    __atomic_store_n(&r->start, (uintptr_t)p, __ATOMIC_RELEASE);
    return p;
}

/* A mapping of an empty file: the kernel itself raises SIGBUS at the very instruction. */
void region_break(const struct region *r)
{
    struct region *mine = &regions[r - regions];
    if (empty_file < 0)
        empty_file = memfd_create("ccnode-sim-revoked", MFD_CLOEXEC);
    (void)raw_mmap((void *)r->start, r->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                   empty_file, 0);
    mine->hole = true;
}

void regions_mend(int vfio)
{
    for (int i = 0; i < TRAP_REGIONS; i++) {
        struct region *r = &regions[i];
        if (r->start <= 1 || r->vfio != vfio || !r->hole)
            continue;
        r->hole = false;
        (void)raw_mmap((void *)r->start, r->length, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    }
}

bool regions_of_vfio(int vfio)
{
    for (int i = 0; i < TRAP_REGIONS; i++)
        if (regions[i].start > 1 && regions[i].vfio == vfio)
            return true;
    return false;
}

/* --- what programs call ------------------------------------------------------------------------------------------ */

static void *refuse(int error)
{
    errno = error;
    return MAP_FAILED;
}

/* As Linux drivers/pci/pci-sysfs.c: lockdown, then size, then whether a VFIO user has claimed the BAR */
static void *map_resource(const struct file_id *id, void *addr, size_t length, int flags,
                          off_t offset)
{
    struct model_bar bar = model_bar(trap_model, id->hw, id->bar);
    if (model_map_forbidden(trap_model, id->hw))
        return refuse(EPERM);
    if (length == 0 || offset < 0 || (uint64_t)offset >= bar.size ||
        length > bar.size - (uint64_t)offset)
        return refuse(EINVAL);
    if (model_vfio_claimed(trap_model, id->hw))
        return refuse(EINVAL);
    struct region what = {.offset = (uint64_t)offset,
                          .hw = id->hw,
                          .bar = id->bar,
                          .generation = model_map_generation(trap_model, id->hw),
                          .vfio = -1};
    return region_map(addr, length, flags, &what);
}

static void *map(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    if (trap_model && fd >= 0 && !(flags & MAP_ANONYMOUS)) {
        struct file_id id;
        int saved_errno = errno, vfio = vfio_of_fd(fd);
        if (vfio >= 0)
            return vfio_map(vfio, addr, length, flags, (uint64_t)offset);
        if (identify(fd, &id) && id.kind == FILE_RESOURCE)
            return map_resource(&id, addr, length, flags, offset);
        errno = saved_errno;
    }
    return raw_mmap(addr, length, prot, flags, fd, offset);
}

TRAP_EXPORT void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    return map(addr, length, prot, flags, fd, offset);
}

TRAP_EXPORT void *mmap64(void *addr, size_t length, int prot, int flags, int fd, off64_t offset)
{
    return map(addr, length, prot, flags, fd, offset);
}

/* whole mappings and their ends; a hole in the middle stays in the table, nobody does that */
static void forget(uintptr_t start, size_t length)
{
    for (int i = 0; i < TRAP_REGIONS; i++) {
        struct region *r = &regions[i];
        if (r->start <= 1 || start >= r->start + r->length || start + length <= r->start)
            continue;
        int vfio = r->vfio;
        uintptr_t end = r->start + r->length, cut_end = start + length;
        if (start > r->start) {
            if (cut_end >= end)
                r->length = start - r->start;
            continue;
        }
        if (cut_end < end) {
            r->offset += cut_end - r->start;
            r->length = end - cut_end;
            __atomic_store_n(&r->start, cut_end, __ATOMIC_RELEASE);
            continue;
        }
        __atomic_store_n(&r->start, 0, __ATOMIC_RELEASE);
        if (vfio >= 0)
            vfio_unmapped(vfio);
    }
}

TRAP_EXPORT int munmap(void *addr, size_t length)
{
    int r = (int)syscall(SYS_munmap, addr, length);
    if (r == 0 && trap_model)
        forget((uintptr_t)addr, length);
    return r;
}
