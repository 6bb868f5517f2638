#include "node-agent/gpu/pci_ids.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pci/pci.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/gpu/names.h"

#define PCI_IDS_MAX (8 << 20) /* the database has 1.4 MB today */
#define LIBRARY "libpci.so.3"
#define NVIDIA 0x10de
#define TEXT_SIZE 256 /* of a name in the list; longer ones are cut */
/* NULL instead of a number, and nothing but the list */
#define LOOKUP_FLAGS (PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB)

struct pci_ids {
    void *library;
    struct pci_access *(*alloc)(void);
    void (*cleanup)(struct pci_access *access);
    int (*load_name_list)(struct pci_access *access);
    char *(*lookup_name)(struct pci_access *access, char *buf, int size, int flags, ...);
    struct pci_access *access;
    char path[32]; /* libpci keeps a pointer to it */
};

/* libpci's handler of fatal errors must not return, and gets no argument of ours. */
static _Thread_local struct {
    jmp_buf back;
    char text[200];
} fatal;

__attribute__((noreturn, format(printf, 1, 2))) static void on_fatal(char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fatal.text, sizeof fatal.text, format, args);
    va_end(args);
    fatal.text[strcspn(fatal.text, "\n")] = '\0';
    longjmp(fatal.back, 1); /* NOLINT(cert-err52-cpp): the only way out */
}

__attribute__((format(printf, 1, 2))) static void say_nothing(char *format, ...)
{
    (void)format;
}

/* libpci reads compressed lists too, however large they become: those are refused before it sees them. */
static int check_file(int fd, struct err *err)
{
    struct stat st;
    unsigned char magic[2] = {0};
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "not a regular file");
    if (st.st_size > PCI_IDS_MAX)
        return err_set(err, EFBIG, "larger than %d bytes", PCI_IDS_MAX);
    if (pread(fd, magic, sizeof magic, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b)
        return err_set(err, EINVAL, "compressed; a plain pci.ids is needed");
    return 0;
}

static int load_library(struct pci_ids *ids, struct err *err)
{
    ids->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!ids->library)
        return err_set(err, ELIBACC, LIBRARY " cannot be loaded, install libpci3: %s", dlerror());
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {{"pci_alloc", &ids->alloc},
                   {"pci_cleanup", &ids->cleanup},
                   {"pci_load_name_list", &ids->load_name_list},
                   {"pci_lookup_name", &ids->lookup_name}};
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        void *symbol = dlsym(ids->library, symbols[i].name);
        if (!symbol)
            return err_set(err, ELIBACC, LIBRARY " lacks %s", symbols[i].name);
        memcpy(symbols[i].slot, &symbol, sizeof symbol);
    }
    return 0;
}

static int load_list(struct pci_ids *ids, struct err *err)
{
    if (setjmp(fatal.back) != 0) /* NOLINT(cert-err52-cpp) */
        return err_set(err, EBADMSG, "%s", fatal.text);
    if (!ids->load_name_list(ids->access))
        return err_set(err, EIO, "cannot be read");
    /* libpci would load an empty list again with every question, outside of this frame */
    char text[64];
    if (!ids->lookup_name(ids->access, text, sizeof text, PCI_LOOKUP_VENDOR | LOOKUP_FLAGS, NVIDIA))
        return err_set(err, ENODATA, "does not know the vendor 10de (NVIDIA)");
    return 0;
}

struct pci_ids *pci_ids_open(int fd, struct err *err)
{
    if (check_file(fd, err) < 0)
        return NULL;
    struct pci_ids *ids = xcalloc(1, sizeof *ids);
    (void)snprintf(ids->path, sizeof ids->path, "/proc/self/fd/%d", fd);
    int r = load_library(ids, err);
    if (r == 0) {
        ids->access = ids->alloc();
        ids->access->error = on_fatal;
        ids->access->warning = ids->access->debug = say_nothing;
        ids->access->id_lookup_mode = 0; /* by default a cache in the home directory */
        ids->access->id_file_name = ids->path;
        r = load_list(ids, err);
    }
    if (r == 0)
        return ids;
    pci_ids_close(ids);
    return NULL;
}

void pci_ids_close(struct pci_ids *ids)
{
    if (!ids)
        return;
    if (ids->access)
        ids->cleanup(ids->access);
    if (ids->library)
        (void)dlclose(ids->library);
    free(ids);
}

/* Return: 0; -ENOENT: not listed, or nothing of its text can be in a name. */
static int lookup(struct pci_ids *ids, int id, char text[TEXT_SIZE], char *resource, size_t room)
{
    struct err ignored = ERR_INIT;
    if (!ids->lookup_name(ids->access, text, TEXT_SIZE, PCI_LOOKUP_DEVICE | LOOKUP_FLAGS, NVIDIA,
                          id))
        return -ENOENT;
    for (char *p = text; *p; p++)
        *p = isprint((unsigned char)*p) ? *p : ' ';
    return names_format(text, resource, room, &ignored) < 0 ? -ENOENT : 0;
}

static bool is_taken(struct pci_ids *ids, int id, const char *resource)
{
    size_t n;
    const struct nv_model *models = names_table(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(models[i].resource, resource) == 0)
            return true;
    }
    char text[TEXT_SIZE], other[sizeof((struct nv_device *)0)->resource];
    for (int i = 0; i <= 0xffff; i++) {
        if (i != id && lookup(ids, i, text, other, sizeof other) == 0 &&
            strcmp(other, resource) == 0)
            return true;
    }
    return false;
}

int pci_ids_find(struct pci_ids *ids, struct nv_device *dev, struct err *err)
{
    char text[TEXT_SIZE], resource[sizeof dev->resource];
    if (lookup(ids, dev->device_id, text, resource, sizeof resource) < 0)
        return err_set(err, ENOENT, "10de:%04x is not in pci.ids", dev->device_id);
    if (is_taken(ids, dev->device_id, resource))
        return err_set(err, ENOENT, "10de:%04x shares its name '%s' in pci.ids with another model",
                       dev->device_id, resource);
    (void)snprintf(dev->name, sizeof dev->name, "%s", text);
    memcpy(dev->resource, resource, sizeof resource);
    return 0;
}

/* Return: the list, or NULL; err is set only when a file is there. */
static struct pci_ids *open_first(const struct host *host, struct err *err)
{
    static const char *const places[] = {"/usr/share/misc/pci.ids", "/usr/local/share/pci.ids",
                                         "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct err why = ERR_INIT;
        AUTO_CLOSE int fd = host_openat(host, places[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC, &why);
        if (fd == -ENOENT)
            continue;
        struct pci_ids *ids = fd < 0 ? NULL : pci_ids_open(fd, &why);
        if (!ids)
            (void)err_set(err, why.code, "%s is not used: %s", places[i], why.msg);
        return ids;
    }
    return NULL;
}

static bool copy_from_sibling(struct nv_device *const *devices, size_t n, struct nv_device *dev)
{
    for (size_t i = 0; i < n; i++) {
        if (devices[i]->device_id == dev->device_id && devices[i]->kind == dev->kind) {
            memcpy(dev->name, devices[i]->name, sizeof dev->name);
            memcpy(dev->resource, devices[i]->resource, sizeof dev->resource);
            return true;
        }
    }
    return false;
}

int pci_ids_name(const struct host *host, struct nv_device *const *devices, size_t n,
                 struct err *err)
{
    struct pci_ids *ids = NULL;
    struct err why = ERR_INIT, ignored = ERR_INIT;
    bool tried = false;
    for (size_t i = 0; i < n; i++) {
        if (*devices[i]->resource || copy_from_sibling(devices, i, devices[i]))
            continue;
        if (!tried)
            ids = open_first(host, &why);
        tried = true;
        if (!ids || pci_ids_find(ids, devices[i], &ignored) < 0)
            names_generic(devices[i]);
    }
    pci_ids_close(ids);
    if (!why.code)
        return 0;
    *err = why;
    return -why.code;
}
