#include "simulator/tree/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/tree/build.h"
#include "simulator/tree/host.h"
#include "simulator/tree/kernel.h"
#include "simulator/tree/treefs.h"

static void *serve_thread(void *arg)
{
    struct err *err = arg;
    (void)treefs_serve(err);
    (void)kill(getpid(), SIGTERM); /* the mount is gone: so is the node */
    return NULL;
}

/* output of a daemon goes nowhere: whoever started it would wait for the end of its pipe */
static void let_go_of_output(void)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        (void)dup2(null, fd);
}

static int say_ready(const char *root, int parent_fd, struct err *err)
{
    if (parent_fd < 0) {
        (void)printf("ready root=%s\n", root);
        (void)fflush(stdout);
        return 0;
    }
    if (write(parent_fd, "1", 1) != 1)
        return err_errno(err, "tell the parent");
    let_go_of_output();
    return 0;
}

/* device nodes as real ones: a small tmpfs, since the root itself may be mounted nodev */
static int mount_device_nodes(const char *root, struct err *err)
{
    AUTO_FREE char *dev = xasprintf("%s/dev", root);
    if (mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=1m") < 0)
        return err_errno(err, "mount %s", dev);
    static const char *const below[] = {"dev/vfio", "dev/vfio/devices"};
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", root, below[i]);
        (void)mkdir(path, 0755);
    }
    return 0;
}

static void block_signals(sigset_t *ends)
{
    (void)sigemptyset(ends);
    (void)sigaddset(ends, SIGTERM);
    (void)sigaddset(ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ends, NULL);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* builds and mounts everything; a thread serves from then on */
static int bring_up(const struct profile *profile, const struct serve_options *options,
                    struct err *thread_err, struct err *err)
{
    AUTO_FREE char *mount_point = xasprintf("%s/.sim/fs", options->root);
    pthread_t thread;
    int r = options->device_nodes ? mount_device_nodes(options->root, err) : 0;
    if (r == 0)
        r = build_node(profile, options, err);
    if (r == 0)
        r = treefs_mount(mount_point, err);
    if (r == 0 && pthread_create(&thread, NULL, serve_thread, thread_err) != 0)
        r = err_set(err, EAGAIN, "start the FUSE thread");
    if (r < 0)
        return r;
    treefs_announce(mount_point);
    return host_tree_mount(options->root, !options->device_nodes, err);
}

/* Returns only when somebody else serves this root: else the process ends with the node, since a thread may be left. */
static int serve_here(const struct profile *profile, const struct serve_options *options,
                      int parent_fd, struct err *err)
{
    static struct err thread_err;
    sigset_t ends;
    block_signals(&ends);
    int r = host_tree_lock(options->root, err);
    if (r < 0)
        return r; /* somebody else's mounts: hands off */
    r = host_tree_prepare(options->root, profile, err);
    if (r == 0)
        r = bring_up(profile, options, &thread_err, err);
    if (r == 0)
        r = say_ready(options->root, parent_fd, err);
    int sig = 0;
    if (r == 0)
        (void)sigwait(&ends, &sig);
    host_tree_unmount(options->root);
    bool failed = r < 0 || thread_err.code;
    if (failed)
        (void)fprintf(stderr, "ccnode-sim: %s\n", r < 0 ? err->msg : thread_err.msg);
    /* Requests may be blocked for as long as somebody holds a device; the end of the process fails them all. */
    (void)fflush(NULL);
    _exit(failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* the parent answers only when the node can be used */
static int wait_ready(pid_t child, int fd, const struct serve_options *options, struct err *err)
{
    char c;
    if (read(fd, &c, 1) == 1) {
        (void)printf("ready root=%s\n", options->root);
        (void)fflush(stdout);
        return 0;
    }
    int status = 0;
    (void)waitpid(child, &status, 0);
    return err_set(err, EIO, "the server ended with status %d, see above", WEXITSTATUS(status));
}

static int child_main(const struct profile *profile, const struct serve_options *options, int fd)
{
    struct err err = ERR_INIT;
    (void)setsid();
    if (serve_here(profile, options, fd, &err) == 0)
        return EXIT_SUCCESS;
    (void)fprintf(stderr, "ccnode-sim: %s\n", err.msg);
    return EXIT_FAILURE;
}

static int in_background(const struct profile *profile, const struct serve_options *options,
                         struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, "pipe");
    pid_t child = fork();
    if (child < 0)
        return err_errno(err, "fork");
    if (child == 0) {
        (void)close(fds[0]);
        _exit(child_main(profile, options, fds[1]));
    }
    (void)close(fds[1]);
    int r = wait_ready(child, fds[0], options, err);
    (void)close(fds[0]);
    return r;
}

int serve(const struct serve_options *options, struct err *err)
{
    AUTO_FREE struct profile *profile = xcalloc(1, sizeof *profile);
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return err_errno(err, "the simulated node needs root and /dev/fuse (modprobe fuse)");
    int r = profile_load(options->profile, profile, err);
    if (r == 0)
        r = host_tree_refuse_served(options->root, err);
    if (r < 0)
        return r;
    return options->foreground ? serve_here(profile, options, -1, err)
                               : in_background(profile, options, err);
}
