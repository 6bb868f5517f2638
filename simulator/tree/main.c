/* ccnode-sim: the command line. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "simulator/model/model.h"
#include "simulator/trap/tracer.h"
#include "simulator/tree/ctl.h"
#include "simulator/tree/exec.h"
#include "simulator/tree/hold.h"
#include "simulator/tree/host.h"
#include "simulator/tree/out.h"
#include "simulator/tree/serve.h"
#include "version.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "ccnode-sim - a simulated GPU node\n"
    "\n"
    "  ccnode-sim --profile NAME|FILE --root DIR [--foreground] [--scale F] [--delay NAME=MS]… "
    "[--device-nodes]\n"
    "      serve a host root below DIR: sys, dev, proc, run, var, etc, lib; programs take it as "
    "--host-root DIR.\n"
    "      Profiles: h100-pcie hgx-h100 hgx-b200 rtx-pro-6000 mixed, or a YAML file. --scale 0 "
    "takes all delays away.\n"
    "      --device-nodes makes real character devices below DIR/dev, for container runtimes.\n"
    "  ccnode-sim stop --root DIR          end it and unmount\n"
    "  ccnode-sim exec --root DIR -- CMD…  run CMD with /sys and /dev/vfio replaced and BAR access "
    "trapped\n"
    "  ccnode-sim env  --root DIR          print the environment for programs run with --host-root "
    "DIR\n"
    "  ccnode-sim ctl  --root DIR [--json] CMD…\n"
    "                                       look, inject faults, move time, plug and unplug (ctl "
    "help)\n"
    "\n"
    "CCNODE_SIM_ROOT is the default of --root. Exit status: 0 done, 1 failed, 2 usage.\n";

struct args {
    struct serve_options serve;
    char root[PATH_MAX];
    struct profile_delay delays[PROFILE_MAX_DELAYS];
};

static int complain(const struct err *err)
{
    (void)fprintf(stderr, "ccnode-sim: %s\n", err->msg);
    return EXIT_FAILURE;
}

/* an absolute root that is not the machine's own */
static int take_root(struct args *args, bool create, struct err *err)
{
    char full[PATH_MAX];
    const char *text = args->serve.root ? args->serve.root : getenv("CCNODE_SIM_ROOT");
    if (!text || !*text)
        return err_set(err, EINVAL, "--root DIR is missing");
    if (!realpath(text, full)) {
        if (errno != ENOENT || !create || mkdir(text, 0755) < 0 || !realpath(text, full))
            return err_errno(err, "root %s", text);
    }
    if (strcmp(full, "/") == 0)
        return err_set(err, EINVAL,
                       "the root must not be /: a simulated node never replaces the machine's own");
    (void)snprintf(args->root, sizeof args->root, "%s", full);
    args->serve.root = args->root;
    return 0;
}

static int take_delay(struct args *args, const char *text)
{
    struct profile_delay *d = &args->delays[args->serve.n_delays];
    const char *equal = strchr(text, '=');
    if (!equal || args->serve.n_delays == PROFILE_MAX_DELAYS ||
        (size_t)(equal - text) >= sizeof d->name)
        return -EINVAL;
    char *end = NULL;
    unsigned long ms = strtoul(equal + 1, &end, 10);
    if (*end || end == equal + 1 || ms > 3600000)
        return -EINVAL;
    (void)snprintf(d->name, sizeof d->name, "%.*s", (int)(equal - text), text);
    d->ms = (uint32_t)ms;
    args->serve.delays = args->delays;
    args->serve.n_delays++;
    return 0;
}

static int take_scale(struct args *args, const char *text)
{
    char *end = NULL;
    double scale = strtod(text, &end);
    if (end == text || *end || !(scale >= 0 && scale <= 1000))
        return -EINVAL;
    args->serve.scale = scale;
    return 0;
}

static int take_option(int c, struct args *args)
{
    switch (c) {
    case 'p':
        args->serve.profile = optarg;
        return 0;
    case 'r':
        args->serve.root = optarg;
        return 0;
    case 'f':
        args->serve.foreground = true;
        return 0;
    case 'j':
        out_json(true);
        return 0;
    case 'n':
        args->serve.device_nodes = true;
        return 0;
    case 's':
        return take_scale(args, optarg);
    case 'd':
        return take_delay(args, optarg);
    case 'h':
        (void)fputs(usage, stdout);
        exit(EXIT_SUCCESS);
    case 'v':
        (void)puts("ccnode-sim " CCN_VERSION);
        exit(EXIT_SUCCESS);
    default:
        return -EINVAL;
    }
}

/* @mixed: options may stand behind other arguments, which are no options of somebody else */
static int take_options(int argc, char **argv, bool mixed, struct args *args)
{
    static const struct option options[] = {
        {"profile", required_argument, NULL, 'p'}, {"root", required_argument, NULL, 'r'},
        {"foreground", no_argument, NULL, 'f'},    {"scale", required_argument, NULL, 's'},
        {"delay", required_argument, NULL, 'd'},   {"device-nodes", no_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},          {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},       {0}};
    for (int c; (c = getopt_long(argc, argv, mixed ? "" : "+", options, NULL)) != -1;) {
        if (take_option(c, args) == 0)
            continue;
        (void)fprintf(stderr, "ccnode-sim: see ccnode-sim --help\n");
        return -EINVAL;
    }
    return 0;
}

static int stop(const char *root)
{
    struct err err = ERR_INIT;
    (void)hold_release(root, ""); /* of what ctl hold started */
    pid_t pid = host_tree_pid(root, &err);
    if (pid > 0 && kill(pid, SIGTERM) < 0)
        return complain(&err);
    for (int i = 0; i < 1000 && host_tree_pid(root, &err) == pid && pid > 0; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    if (pid > 0 && host_tree_pid(root, &err) == pid)
        (void)kill(pid, SIGKILL);
    host_tree_unmount(root); /* also what a killed server left behind */
    return EXIT_SUCCESS;
}

/* static programs ignore the preload: they run under a tracer */
static int run_traced(const char *root, char **command)
{
    struct err err = ERR_INIT;
    struct model *model = NULL;
    AUTO_FREE char *state = xasprintf("%s/.sim/state", root);
    int r = model_open(state, &model, &err);
    if (r == 0)
        r = tracer_run(model, command, &err);
    model_close(model);
    return r < 0 ? complain(&err) : r;
}

static int run_program(const char *root, char **command)
{
    struct err err = ERR_INIT;
    if (!*command) {
        (void)fprintf(stderr, "ccnode-sim: exec needs a command after --\n");
        return EXIT_USAGE;
    }
    if (host_tree_pid(root, &err) < 0 || exec_env(root, &err) < 0 || exec_namespace(root, &err) < 0)
        return complain(&err);
    if (tracer_wanted(command[0]))
        return run_traced(root, command);
    (void)execvp(command[0], command);
    (void)err_errno(&err, "run %s", command[0]);
    return complain(&err);
}

static int print_env(const char *root)
{
    static const char *const names[] = {"LD_PRELOAD", "CCNODE_SIM_STATE", "CCNODE_SIM_ROOT"};
    struct err err = ERR_INIT;
    if (exec_env(root, &err) < 0)
        return complain(&err);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)printf("%s=%s\n", names[i], getenv(names[i]));
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct args args = {.serve.scale = 1};
    static const char *const commands[] = {"stop", "exec", "env", "ctl", "hold-device"};
    const char *command = "";
    struct err err = ERR_INIT;
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i]) == 0)
            command = commands[i];
    if (*command) {
        argv++;
        argc--;
    }
    bool mixed = strcmp(command, "exec") != 0 && strcmp(command, "hold-device") != 0;
    if (take_options(argc, argv, mixed, &args) < 0)
        return EXIT_USAGE;
    if (!*command && (optind < argc || !args.serve.profile)) {
        (void)fprintf(stderr, optind < argc ? "ccnode-sim: unknown command %s\n" : "%s",
                      optind < argc ? argv[optind] : usage);
        return EXIT_USAGE;
    }
    if (strcmp(command, "ctl") == 0 && (optind == argc || strcmp(argv[optind], "help") == 0))
        return ctl_main(NULL, argc - optind, argv + optind);
    if (take_root(&args, !*command, &err) < 0)
        return complain(&err), EXIT_USAGE;
    if (strcmp(command, "stop") == 0)
        return stop(args.root);
    if (strcmp(command, "exec") == 0)
        return run_program(args.root, argv + optind);
    if (strcmp(command, "env") == 0)
        return print_env(args.root);
    if (strcmp(command, "ctl") == 0)
        return ctl_main(args.root, argc - optind, argv + optind);
    if (strcmp(command, "hold-device") == 0)
        return hold_main(args.root, argc - optind, argv + optind);
    return serve(&args.serve, &err) < 0 ? complain(&err) : EXIT_SUCCESS;
}
