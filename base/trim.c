#include "base/trim.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

/* A file of which something is mapped, and how much of it is resident. */
struct used_file {
    char path[512];
    size_t bytes;
};

/* A file of which less than a third is in use leaves the page cache, but for what is in use. */
static void forget_if_hardly_used(const struct used_file *f)
{
    struct stat st;
    if (!*f->path || stat(f->path, &st) < 0 || !S_ISREG(st.st_mode) ||
        f->bytes >= (size_t)st.st_size / 3)
        return; /* opening a device node may do anything: only regular files */
    AUTO_CLOSE int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* The mappings of one file follow each other. */
static void forget_hardly_used_files(void)
{
    AUTO_FCLOSE FILE *maps = fopen("/proc/self/smaps", "re");
    struct used_file f = {0};
    char line[512];
    while (maps && fgets(line, sizeof line, maps)) {
        struct mapping m;
        const char *path = strchr(line, '/');
        if (begins(line, &m)) {
            line[strcspn(line, "\n")] = '\0';
            path = path ? path : "";
            if (strcmp(path, f.path) == 0)
                continue;
            forget_if_hardly_used(&f);
            f = (struct used_file){0};
            memcpy(f.path, path, strlen(path) + 1);
        } else if (strncmp(line, "Rss:", 4) == 0) {
            f.bytes += strtoul(line + 4, NULL, 10) * 1024;
        } else if (strncmp(line, "Anonymous:", 10) ==
                   0) { /* counted above, but no pages of the file */
            f.bytes -= strtoul(line + 10, NULL, 10) * 1024;
        }
    }
    forget_if_hardly_used(&f);
}

void trim_memory(void)
{
    forget_hardly_used_files();
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
