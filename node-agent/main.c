/* ccnode-agent: reads the command line, then agent_main(). */
#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"
#include "node-agent/agent.h"
#include "node-agent/retire.h"
#include "version.h"

#define EXIT_USAGE 2

static const char help[] =
    "Usage: ccnode-agent [OPTION]...\n"
    "Keeps the NVIDIA GPUs and NVSwitches of this node in the Confidential Computing mode that the "
    "node's label\n"
    "nvidia.com/cc.mode asks for (on, off, devtools, ppcie), bound to VFIO, and offered to kubelet "
    "and CDI.\n"
    "\n"
    "  --config FILE        YAML configuration; read again when it changes and on SIGHUP\n"
    "  --node-name NAME     name of this Node (default: $NODE_NAME, else the host name)\n"
    "  --kubeconfig FILE    credentials (default: $KUBECONFIG, else the pod's service account)\n"
    "  --explain            print what would be done and why, change nothing, and end\n"
    "  --host-root DIR      where sys, dev, proc, run, var, etc of the host are (default: /)\n"
    "  --log-level LEVEL    debug, info, warning, error\n"
    "  --log-format FORMAT  text, json\n"
    "  --help-config        every key of the configuration with type, default and meaning\n"
    "  --uninstall NS/NAME  delete that DaemonSet and wait until its agents have taken back "
    "labels, "
    "condition and CDI\n"
    "                       files (for the chart's pre-delete hook)\n"
    "  --help, --version\n"
    "\n"
    "Without kubeconfig and outside a pod it works without Kubernetes: mode.default and "
    "devices.modes decide.\n"
    "\n"
    "SIGTERM, SIGINT: end; no device is touched, a running step of a change is finished first. "
    "SIGHUP: read the\n"
    "configuration. kill -9 at any point is safe: the next start goes on from what it finds.\n"
    "\n"
    "Pages at http.listen (127.0.0.1:9408): /metrics /healthz /readyz /debug/plan. State for "
    "`ccnode status`:\n"
    "/run/ccnode/status.json. $CCNODE_EVICT_TOKEN: file with the token of the ServiceAccount that "
    "may evict pods.\n"
    "\n"
    "Exit status: 0 asked to end; 1 could not start; 2 usage or configuration.\n";

enum {
    OPT_CONFIG = 256,
    OPT_NODE,
    OPT_KUBECONFIG,
    OPT_EXPLAIN,
    OPT_UNINSTALL,
    OPT_ROOT,
    OPT_LEVEL,
    OPT_FORMAT,
    OPT_HELP,
    OPT_HELP_CONFIG,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"node-name", required_argument, NULL, OPT_NODE},
    {"kubeconfig", required_argument, NULL, OPT_KUBECONFIG},
    {"explain", no_argument, NULL, OPT_EXPLAIN},
    {"uninstall", required_argument, NULL, OPT_UNINSTALL},
    {"host-root", required_argument, NULL, OPT_ROOT},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"log-format", required_argument, NULL, OPT_FORMAT},
    {"help", no_argument, NULL, OPT_HELP},
    {"help-config", no_argument, NULL, OPT_HELP_CONFIG},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

struct arguments {
    struct agent_options options;
    const char *level, *format;
    const char *uninstall; /* "namespace/name" of a DaemonSet */
};

/* Return: -1 go on, else the exit status. */
static int read_arguments(int argc, char **argv, struct arguments *ret)
{
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (c) {
        case OPT_CONFIG:
            ret->options.config_path = optarg;
            break;
        case OPT_NODE:
            ret->options.node_name = optarg;
            break;
        case OPT_KUBECONFIG:
            ret->options.kubeconfig = optarg;
            break;
        case OPT_EXPLAIN:
            ret->options.explain = true;
            break;
        case OPT_UNINSTALL:
            ret->uninstall = optarg;
            break;
        case OPT_ROOT:
            ret->options.host_root = optarg;
            break;
        case OPT_LEVEL:
            ret->level = optarg;
            break;
        case OPT_FORMAT:
            ret->format = optarg;
            break;
        case OPT_HELP:
            (void)fputs(help, stdout);
            return EXIT_SUCCESS;
        case OPT_HELP_CONFIG:
            config_print_help(stdout);
            return EXIT_SUCCESS;
        case OPT_VERSION:
            (void)puts("ccnode-agent " CCN_VERSION);
            return EXIT_SUCCESS;
        default:
            (void)fputs("ccnode-agent --help shows the options\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    (void)fprintf(stderr, "ccnode-agent: unexpected argument \"%s\"; --help shows the options\n",
                  argv[optind]);
    return EXIT_USAGE;
}

static int read_config(const struct arguments *args, struct config *ret, struct err *err)
{
    int r = 0;
    if (args->options.config_path)
        r = config_load(args->options.config_path, ret, err);
    else
        config_default(ret);
    if (r == 0 && args->level)
        r = log_level_parse(args->level, &ret->log_level, err);
    if (r == 0 && args->format)
        r = log_format_parse(args->format, &ret->log_format, err);
    return r;
}

/* kubelet registers the Node under the host name in lower case when it is not told another one. */
static char *default_node_name(void)
{
    const char *given = getenv("NODE_NAME");
    if (given && *given)
        return xstrdup(given);
    char name[HOST_NAME_MAX + 1] = "";
    (void)gethostname(name, sizeof name - 1);
    for (char *p = name; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return xstrdup(name);
}

int main(int argc, char **argv)
{
    struct arguments args = {.options = {.host_root = "/"}};
    int status = read_arguments(argc, argv, &args);
    if (status >= 0)
        return status;
    args.options.log_level_given = args.level != NULL;
    args.options.log_format_given = args.format != NULL;
    struct config config = {0};
    struct err err = ERR_INIT;
    if (read_config(&args, &config, &err) < 0) {
        (void)fprintf(stderr, "ccnode-agent: %s\n", err.msg);
        config_done(&config);
        return EXIT_USAGE;
    }
    log_setup(config.log_level, config.log_format);
    const char *kubeconfig = getenv("KUBECONFIG");
    if (!args.options.kubeconfig && kubeconfig && *kubeconfig)
        args.options.kubeconfig = kubeconfig;
    if (args.uninstall) {
        config_done(&config);
        return uninstall_main(args.uninstall, args.options.kubeconfig);
    }
    AUTO_FREE char *node_name = default_node_name();
    bool kubernetes = args.options.kubeconfig || getenv("KUBERNETES_SERVICE_HOST");
    if (!kubernetes)
        args.options.node_name = NULL;
    else if (!args.options.node_name)
        args.options.node_name = node_name;
    return agent_main(&args.options, &config);
}
