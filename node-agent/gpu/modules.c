#include "node-agent/gpu/modules.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/gpu/inventory.h"
#include "node-agent/gpu/sysfs.h"

#define ALIAS_MAX (16 << 20) /* modules.alias of a distribution kernel has 1.5 MB */
#define VFIO_PREFIX "alias vfio_pci:"

/* One line "alias vfio_pci:PATTERN MODULE". Return: wildcards of a fitting pattern, -1 when it does not fit. */
static int match_line(const char *line, size_t len, const char *tail, char *module, size_t room)
{
    char copy[512];
    size_t skip = strlen(VFIO_PREFIX);
    if (len <= skip || len >= sizeof copy || memcmp(line, VFIO_PREFIX, skip) != 0)
        return -1;
    memcpy(copy, line + skip, len - skip);
    copy[len - skip] = '\0';
    char *blank = strchr(copy, ' ');
    if (!blank || strlen(copy) != len - skip)
        return -1;
    *blank = '\0';
    if (fnmatch(copy, tail, 0) != 0)
        return -1;
    sysfs_copy_name(blank + 1, module, room);
    if (!*module)
        return -1;
    int wildcards = 0;
    for (const char *p = copy; *p; p++)
        wildcards += *p == '*';
    return wildcards;
}

bool modules_match_alias(const char *text, size_t len, const char *modalias, char *ret, size_t room)
{
    const char *colon = strchr(modalias, ':');
    const char *end = text + len;
    int best = -1;
    if (!colon)
        return false;
    for (const char *p = text; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        char module[64];
        int wildcards = match_line(p, n, colon + 1, module, sizeof module);
        if (wildcards >= 0 && (best < 0 || wildcards < best)) {
            best = wildcards;
            (void)snprintf(ret, room, "%s", module);
        }
        p = nl ? nl + 1 : end;
    }
    return best >= 0;
}

/* The directory of the running kernel; where that is not known the only one there is. */
static void modules_dir(const struct host *host, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    char release[64];
    host_release(host, release, sizeof release);
    (void)snprintf(ret, room, "/lib/modules/%s", release);
    if (*release && sysfs_exists(host, ret))
        return;
    int fd = host_openat(host, "/lib/modules", O_RDONLY | O_DIRECTORY, &ignored);
    AUTO_CLOSEDIR DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int found = 0;
    if (!dir && fd >= 0)
        (void)close(fd);
    for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char name[128];
        sysfs_copy_name(e->d_name, name, sizeof name);
        if (!*name || name[0] == '.')
            continue;
        (void)snprintf(ret, room, "/lib/modules/%s", name);
        found++;
    }
    if (found != 1)
        *ret = '\0';
}

void modules_best_vfio(const struct host *host, const char *modalias, char *ret, size_t room)
{
    struct err ignored = ERR_INIT;
    char dir[160], path[200];
    AUTO_FREE char *text = NULL;
    size_t len;
    (void)snprintf(ret, room, "vfio-pci");
    modules_dir(host, dir, sizeof dir);
    (void)snprintf(path, sizeof path, "%s/modules.alias", dir);
    if (*dir && fs_read(host, path, ALIAS_MAX, &text, &len, &ignored) == 0)
        (void)modules_match_alias(text, len, modalias, ret, room);
}

static bool driver_exists(const struct host *host, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/sys/bus/pci/drivers/%.60s", name);
    return sysfs_exists(host, path);
}

static void swap(char *text, char from, char to)
{
    for (; *text; text++) {
        if (*text == from)
            *text = to;
    }
}

bool modules_driver_dir(const struct host *host, const char *driver, char *ret, size_t room)
{
    (void)snprintf(ret, room, "%s", driver);
    if (driver_exists(host, ret))
        return true;
    swap(ret, '_', '-');
    if (driver_exists(host, ret))
        return true;
    swap(ret, '-', '_');
    if (driver_exists(host, ret))
        return true;
    (void)snprintf(ret, room, "%s", driver);
    return false;
}

static bool is_loaded(const struct host *host, const char *name)
{
    char path[128], dir[64];
    (void)snprintf(path, sizeof path, "/sys/module/%.60s", name);
    swap(path + strlen("/sys/module/"), '-', '_');
    return sysfs_exists(host, path) || modules_driver_dir(host, name, dir, sizeof dir);
}

/* The host's own, or where only some of its directories are mounted, ours with the host's modules.
 * Return: path below the host root, or of this root (@ret_own), or NULL. */
static const char *find_modprobe(const struct host *host, bool *ret_own)
{
    static const char *const places[] = {"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe",
                                         "/usr/bin/modprobe"};
    *ret_own = false;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (sysfs_exists(host, places[i]))
            return places[i];
    }
    *ret_own = true;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (access(places[i], X_OK) == 0)
            return places[i];
    }
    return NULL;
}

/* In the child: never returns. Without permission for chroot modprobe is told where the modules are instead. */
static void exec_modprobe(const struct host *host, const char *program, bool own, const char *name,
                          int out)
{
    char *const envp[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};
    AUTO_FREE char *below = own ? xstrdup(program) : host_path(host, program);
    AUTO_FREE char *root = xasprintf("--dirname=%s", host->root), *module = xstrdup(name);
    bool other = strcmp(host->root, "/") != 0;
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(126);
    if (other && !own && fchdir(host->root_fd) == 0 && chroot(".") == 0) {
        (void)snprintf(below, strlen(below) + 1, "%s", program);
        other = false;
    }
    char *const plain[] = {(char[]){"modprobe"}, (char[]){"-q"}, (char[]){"--"}, module, NULL};
    char *const rooted[] = {(char[]){"modprobe"}, root,   (char[]){"-q"},
                            (char[]){"--"},       module, NULL};
    (void)execve(below, other ? rooted : plain, envp);
    _exit(127);
}

int modules_load(const struct host *host, const char *name, struct err *err)
{
    char plain[64], said[300] = "";
    sysfs_copy_name(name, plain, sizeof plain);
    for (const char *p = plain; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            plain[0] = '\0';
    }
    if (!*plain || plain[0] == '-')
        return err_set(err, EINVAL, "'%.60s' is not the name of a kernel module", name);
    if (is_loaded(host, plain))
        return 0;
    bool own;
    const char *program = find_modprobe(host, &own);
    if (!program)
        return err_set(err, ENOENT,
                       "module %s is not loaded and there is no modprobe below %s or here", plain,
                       host->root);
    int pipe_fd[2], status = 0;
    if (pipe2(pipe_fd, O_CLOEXEC) < 0)
        return err_errno(err, "pipe");
    AUTO_CLOSE int in = pipe_fd[0], out = pipe_fd[1];
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, "start modprobe");
    if (pid == 0)
        exec_modprobe(host, program, own, plain, out);
    (void)close(TAKE_FD(out));
    ssize_t n = read(in, said, sizeof said - 1);
    said[n > 0 ? n : 0] = '\0';
    said[strcspn(said, "\n")] = '\0';
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, EIO, "modprobe %s failed (status %d)%s%s", plain,
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1, *said ? ": " : "", said);
    return 1;
}
