/* Opening NVIDIA's libraries by their versioned name, from places nobody else can write to. REF-A 1.1 */
#ifndef CCN_ATTESTATION_PROG_DL_H
#define CCN_ATTESTATION_PROG_DL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct dl_symbol {
    const char *name;
    void *slot; /* of a function pointer */
    bool optional;
};

/* dl_open() - @file if given; otherwise the loader's search for @name (skipped with elevated privileges), then the fixed
 * folders below @host_root. A file or folder that others may write to is refused. */
int dl_open(const char *file, const char *name, const char *host_root, void **ret, struct err *err);
int dl_symbols(void *lib, const char *what, const struct dl_symbol *symbols, size_t n,
               struct err *err);

#endif
