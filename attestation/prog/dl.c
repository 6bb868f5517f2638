#include "attestation/prog/dl.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "base/auto.h"

#ifdef __aarch64__
#define TRIPLET "aarch64-linux-gnu"
#else
#define TRIPLET "x86_64-linux-gnu"
#endif

/* /usr/local/nvidia: managed Kubernetes nodes; /run/kata-extensions: the GPU extension of a Kata guest */
static const char *const folders[] = {"/usr/lib/" TRIPLET, "/usr/lib64", "/usr/local/nvidia/lib64",
                                      "/run/kata-extensions/gpu/usr/lib/" TRIPLET};

static bool others_may_write(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & S_IWOTH);
}

static int open_file(const char *path, void **ret, struct err *err)
{
    AUTO_FREE char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder)
        *slash = 0;
    if (others_may_write(path) || (slash && others_may_write(folder)))
        return err_set(err, EPERM, "%s is writable for everybody", path);
    *ret = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    return *ret ? 0 : err_set(err, ENOENT, "%s", dlerror());
}

int dl_open(const char *file, const char *name, const char *host_root, void **ret, struct err *err)
{
    if (file)
        return open_file(file, ret, err);
    bool own_root = host_root && strcmp(host_root, "/") != 0;
    if (!own_root && getauxval(AT_SECURE) == 0 && (*ret = dlopen(name, RTLD_LAZY | RTLD_LOCAL)))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        AUTO_FREE char *path = xasprintf("%s%s/%s", own_root ? host_root : "", folders[i], name);
        struct stat st;
        if (stat(path, &st) == 0)
            return open_file(path, ret, err);
    }
    return err_set(
        err, ENOENT,
        "%s is neither in the loader's search nor in %s, %s, %s or %s: was the GPU's CDI "
        "device (or the library and /dev/nvidia*) given to this container?",
        name, folders[0], folders[1], folders[2], folders[3]);
}

int dl_symbols(void *lib, const char *what, const struct dl_symbol *symbols, size_t n,
               struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(lib, symbols[i].name);
        if (!symbol && !symbols[i].optional)
            return err_set(err, ENOSYS, "%s has no function %s: the driver is too old", what,
                           symbols[i].name);
        memcpy(symbols[i].slot, &symbol, sizeof symbol);
    }
    return 0;
}
