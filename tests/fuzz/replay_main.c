/* Runs a fuzz target over saved inputs in the ordinary test run, so that an old crash can never return quietly.
 * Arguments: files or directories. An argument that is missing or an empty directory fails: a replay of nothing
 * proves nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    size_t room = 1 << 20, len = 0, n;
    uint8_t *data = malloc(room);
    while (data && (n = fread(data + len, 1, room - len, f)) > 0) {
        len += n;
        if (len == room)
            data = realloc(data, room *= 2);
    }
    (void)fclose(f);
    if (!data)
        abort();
    /* an exact copy on the heap, so that one byte too far is seen */
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact)
        abort();
    memcpy(exact, data, len);
    free(data);
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 1;
}

static size_t replay(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return replay_file(path);
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        char file[4096];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        count += replay_file(file);
    }
    (void)closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++)
        count += replay(argv[i]);
    printf("%zu inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
