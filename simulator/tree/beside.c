#include "simulator/tree/beside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"

int beside_find(const char *name, char ret[PATH_MAX], struct err *err)
{
    static const char *const places[] = {".", "../lib", "../libexec/ccnode", "../lib/ccnode"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_errno(err, "read /proc/self/exe");
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s/%s", self, places[i], name);
        if (realpath(path, ret))
            return 0;
    }
    return err_set(err, ENOENT, "%s is not beside this program (%s): build it or install it", name,
                   self);
}
