#include "base/trim.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/auto.h"

/* One mapping of proc(5) smaps. */
struct mapping {
    uintptr_t from, to;
    bool of_file; /* private, readable, not writable: code and constants */
    bool
        own_copies; /* some of its pages are not the file's any more: relocated, then made read-only */
};

/* "from-to r-xp offset dev inode path"; other lines may begin with a hexadecimal digit too */
static bool begins(const char *line, struct mapping *m)
{
    char *end;
    uintptr_t from = strtoul(line, &end, 16);
    if (end == line || *end != '-')
        return false;
    uintptr_t to = strtoul(end + 1, &end, 16);
    const char *rights = end + 1, *path = strchr(line, '/');
    if (*end != ' ' || strlen(rights) < 4)
        return false;
    bool of_file =
        path && path[-1] == ' ' && rights[0] == 'r' && rights[1] == '-' && rights[3] == 'p';
    *m = (struct mapping){.from = from, .to = to, .of_file = of_file};
    return true;
}

/* "Anonymous:   12 kB" */
static bool counts(const char *line, const char *key)
{
    size_t n = strlen(key);
    return strncmp(line, key, n) == 0 && strtoul(line + n, NULL, 10) > 0;
}

static void give_back(const struct mapping *m)
{
    void *start;
    memcpy(&start, &m->from, sizeof start);
    if (m->of_file && !m->own_copies)
        (void)madvise(start, m->to - m->from, MADV_DONTNEED);
}

void trim_memory(void)
{
    AUTO_FCLOSE FILE *maps = fopen("/proc/self/smaps", "re");
    struct mapping m = {0};
    char line[512];
    (void)malloc_trim(0);
    while (maps && fgets(line, sizeof line, maps)) {
        if (begins(line, &m))
            continue;
        if (counts(line, "Anonymous:") || counts(line, "Swap:"))
            m.own_copies = true;
        else if (strncmp(line, "VmFlags:", 8) == 0) /* the last line of each */
            give_back(&m);
    }
}
