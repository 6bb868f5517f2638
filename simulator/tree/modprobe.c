/* modprobe of the simulated node: ROOT/usr/sbin/modprobe is a copy of this program.
 *
 * It asks the server of that ROOT (ROOT/.sim/fs/ctl, see control.h), whose place it knows from its own path; so it
 * does the same when run as ROOT/usr/sbin/modprobe and after chroot(ROOT). Statically linked, since a ROOT has no
 * libraries. Understood: modprobe [-OPTION]… NAME…, -r or --remove; other options are ignored. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char below_root[] = "/usr/sbin/modprobe";

/* Return: open file of the server, or -1 with errno */
static int ask(const char *file)
{
    char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    size_t tail = sizeof below_root - 1;
    if (n < (ssize_t)tail)
        return -1;
    path[n] = '\0';
    if (strcmp(path + n - (ssize_t)tail, below_root) != 0) {
        errno = ENOENT;
        return -1;
    }
    (void)snprintf(path + n - (ssize_t)tail, 64, "/.sim/fs/ctl/%s", file);
    return open(path, O_WRONLY | O_CLOEXEC);
}

static int one(const char *name, bool unload)
{
    int fd = ask(unload ? "rmmod" : "modprobe");
    if (fd < 0) {
        (void)fprintf(stderr, "modprobe: ERROR: the simulated node is not served: %s\n",
                      strerror(errno));
        return EXIT_FAILURE;
    }
    int r = write(fd, name, strlen(name)) < 0 ? errno : 0;
    (void)close(fd);
    if (r == 0)
        return EXIT_SUCCESS;
    if (unload)
        (void)fprintf(stderr, "modprobe: FATAL: Module %s: %s.\n", name, strerror(r));
    else
        (void)fprintf(stderr, "modprobe: FATAL: Module %s not found.\n", name);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    int status = EXIT_SUCCESS, names = 0;
    bool unload = false;
    for (int i = 1; i < argc; i++)
        unload |= strcmp(argv[i], "-r") == 0 || strcmp(argv[i], "--remove") == 0;
    for (int i = 1; i < argc; i++) {
        if (*argv[i] == '-')
            continue;
        names++;
        if (one(argv[i], unload) != EXIT_SUCCESS)
            status = EXIT_FAILURE;
    }
    if (names == 0)
        (void)fprintf(stderr, "modprobe: ERROR: missing parameters\n");
    return names ? status : EXIT_FAILURE;
}
