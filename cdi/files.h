/* Names of the CDI files in a directory; inside the CDI room only. */
#ifndef CCN_CDI_FILES_H
#define CCN_CDI_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/host.h"

struct cdi_names {
    size_t n;
    char **names; /* sorted */
    bool *is_dir;
    bool cut; /* there are more than CDI_MAX_FILES */
};

/**
 * cdi_list_files() - names ending in .json or .yaml, and subdirectories
 * @dir: below the host root
 * Return: 0 (ret to be freed); -ENOENT there is no such directory; other -errno.
 */
int cdi_list_files(const struct host *host, const char *dir, struct cdi_names *ret,
                   struct err *err);
void cdi_names_free(struct cdi_names *names); /* accepts an empty one */

#endif
