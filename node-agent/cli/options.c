#include "node-agent/cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/nearest.h"
#include "version.h"

enum option_id {
    OPT_HELP = 256,
    OPT_VERSION,
    OPT_CONFIG,
    OPT_HOST_ROOT,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_KNOBS,
    OPT_DRY_RUN,
    OPT_NO_RESET,
    OPT_WHEN_BUSY,
    OPT_DRIVER,
    OPT_DIR,
    OPT_OUTPUT,
    OPT_CHECK,
};

enum {
    USE_KNOBS = 1,
    USE_DRY_RUN = 2,
    USE_NO_RESET = 4,
    USE_WHEN_BUSY = 8,
    USE_DRIVER = 16,
    USE_DIR = 32,
    USE_OUTPUT = 64,
    USE_CHECK = 128
};

static const struct cli_command commands[] = {
    {"list", "list [SEL]", "the devices, their drivers, modes and users", USE_OUTPUT, false, true,
     true, cmd_list},
    {"get-mode", "get-mode [SEL]", "active and pending mode", USE_OUTPUT | USE_KNOBS, false, true,
     true, cmd_get_mode},
    {"set-mode", "set-mode MODE [SEL]",
     "switch to on, off, devtools or ppcie: stage, reset, verify, bind again",
     USE_OUTPUT | USE_DRY_RUN | USE_NO_RESET | USE_WHEN_BUSY, true, true, true, cmd_set_mode},
    {"bind", "bind [SEL]", "give the whole IOMMU group to VFIO",
     USE_OUTPUT | USE_DRIVER | USE_DRY_RUN, false, true, true, cmd_bind},
    {"unbind", "unbind [SEL]", "take it from VFIO, for the host's own driver",
     USE_OUTPUT | USE_DRY_RUN, false, true, true, cmd_unbind},
    {"cdi print", "cdi print", "the CDI specs of the devices that are bound to VFIO",
     USE_OUTPUT | USE_DIR, false, false, true, cmd_cdi_print},
    {"cdi write", "cdi write", "write them, and remove those of ours that are no longer true",
     USE_OUTPUT | USE_DIR | USE_DRY_RUN, false, false, true, cmd_cdi_write},
    {"cdi check", "cdi check", "check every CDI file of this host, foreign ones too",
     USE_OUTPUT | USE_DIR, false, false, true, cmd_cdi_check},
    {"names", "names", "device id -> resource name", USE_OUTPUT, false, false, true, cmd_names},
    {"preflight", "preflight", "every condition of the host that matters, with its cure",
     USE_OUTPUT, false, false, true, cmd_preflight},
    {"status", "status", "what the running agent is doing, per device", USE_OUTPUT | USE_CHECK,
     false, false, false, cmd_status},
};

const struct cli_command *cli_commands(size_t *n)
{
    *n = ARRAY_LEN(commands);
    return commands;
}

struct option_row {
    struct option option;
    unsigned use; /* 0 = every command */
    const char *value, *does;
};

static const struct option_row rows[] = {
    {{"output", required_argument, NULL, OPT_OUTPUT},
     USE_OUTPUT,
     "table|json",
     "-o: for people or for scripts"},
    {{"knobs", no_argument, NULL, OPT_KNOBS},
     USE_KNOBS,
     NULL,
     "every product-reconfiguration knob of the device"},
    {{"dry-run", no_argument, NULL, OPT_DRY_RUN},
     USE_DRY_RUN,
     NULL,
     "print what would be done and touch nothing"},
    {{"no-reset", no_argument, NULL, OPT_NO_RESET},
     USE_NO_RESET,
     NULL,
     "stage only; whatever resets the device later activates the mode"},
    {{"when-busy", required_argument, NULL, OPT_WHEN_BUSY},
     USE_WHEN_BUSY,
     "fail|wait[=DURATION]",
     "devices in use: refuse (default), or wait until they are free"},
    {{"driver", required_argument, NULL, OPT_DRIVER},
     USE_DRIVER,
     "auto|NAME",
     "VFIO driver; auto: the best variant by modules.alias"},
    {{"dir", required_argument, NULL, OPT_DIR},
     USE_DIR,
     "DIR",
     "this directory; default: cdi.directory, and for check /etc/cdi and /var/run/cdi"},
    {{"check", no_argument, NULL, OPT_CHECK},
     USE_CHECK,
     NULL,
     "exit status 1, and why, unless the node is as it was ordered to be"},
    {{"config", required_argument, NULL, OPT_CONFIG},
     0,
     "FILE",
     "configuration; default: /etc/ccnode/ccnode.yaml below the host root if it exists"},
    {{"host-root", required_argument, NULL, OPT_HOST_ROOT},
     0,
     "DIR",
     "prefix of every path of the host; default: $CCNODE_HOST_ROOT or /"},
    {{"log-level", required_argument, NULL, OPT_LOG_LEVEL}, 0, "debug|info|warning|error", NULL},
    {{"log-format", required_argument, NULL, OPT_LOG_FORMAT}, 0, "text|json", NULL},
    {{"help", no_argument, NULL, OPT_HELP}, 0, NULL, NULL},
    {{"version", no_argument, NULL, OPT_VERSION}, 0, NULL, NULL},
};

static void print_option(const struct option_row *row)
{
    char left[64];
    (void)snprintf(left, sizeof left, "--%s%s%s", row->option.name, row->value ? " " : "",
                   row->value ? row->value : "");
    (void)printf("  %-34s %s\n", left, row->does ? row->does : "");
}

static const char help_tail[] = "\nSEL: a PCI address or a part of it that is unique (18:00.0), "
                                "vvvv:dddd (10de:2331), gpus, nvswitches,\n"
                                "gpus[0], gpus[0:4] (the second number is the first one left out), "
                                "or a comma list; none: all managed devices.\n"
                                "\nExit status: 0 as asked; 1 a device failed; 2 usage or "
                                "configuration; 3 refused, in use; 4 refused, not possible\n"
                                "on this hardware, firmware or policy; 5 no device matches.\n";

static void print_help(const struct cli_command *command)
{
    if (command) {
        (void)printf("usage: ccnode %s [OPTION…]\n\n%s\n\n", command->synopsis, command->does);
    } else {
        (void)printf(
            "usage: ccnode COMMAND [OPTION…]\n\nGPUs and NVSwitches of this host: Confidential "
            "Computing mode, VFIO binding, CDI.\nNeeds no Kubernetes.\n\n");
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
            (void)printf("  %-34s %s\n", commands[i].synopsis, commands[i].does);
        (void)printf("\n");
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!command || rows[i].use == 0 || rows[i].use & command->options)
            print_option(&rows[i]);
    (void)fputs(help_tail, stdout);
}

int64_t duration_parse(const char *text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end = NULL;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *text < '0' || *text > '9' || errno != 0 || n > 1000000)
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(end, units[i].unit) == 0)
            return n * units[i].ms;
    return -EINVAL;
}

static int parse_when_busy(const char *text, struct cli_options *ret)
{
    ret->wait_when_busy = strncmp(text, "wait", 4) == 0;
    ret->wait_ms = -1;
    if (strcmp(text, "fail") == 0 || strcmp(text, "wait") == 0)
        return CLI_OK;
    if (strncmp(text, "wait=", 5) == 0)
        ret->wait_ms = duration_parse(text + 5);
    if (ret->wait_ms >= 0)
        return CLI_OK;
    return cli_complain(
        CLI_USAGE, "--when-busy %s: allowed are fail, wait and wait=DURATION (90s, 5m, 1h)", text);
}

static int parse_output(const char *text, struct cli_options *ret)
{
    ret->json = strcmp(text, "json") == 0;
    if (ret->json || strcmp(text, "table") == 0)
        return CLI_OK;
    return cli_complain(CLI_USAGE, "--output %s: allowed are table and json", text);
}

static int parse_logging(int id, const char *text, struct cli_options *ret)
{
    struct err err = ERR_INIT;
    int r;
    if (id == OPT_LOG_LEVEL) {
        ret->log_level_given = true;
        r = log_level_parse(text, &ret->log_level, &err);
    } else {
        ret->log_format_given = true;
        r = log_format_parse(text, &ret->log_format, &err);
    }
    return r == 0 ? CLI_OK : cli_complain(CLI_USAGE, "%s", err.msg);
}

static int take_option(int id, const char *value, struct cli_options *ret)
{
    switch (id) {
    case OPT_CONFIG:
        ret->config_path = value;
        return CLI_OK;
    case OPT_HOST_ROOT:
        ret->host_root = value;
        return CLI_OK;
    case OPT_DRIVER:
        ret->driver = value;
        return *value ? CLI_OK : cli_complain(CLI_USAGE, "--driver needs a name, or auto");
    case OPT_DIR:
        ret->dir = value;
        return *value == '/' ? CLI_OK
                             : cli_complain(CLI_USAGE, "--dir %s: must be an absolute path", value);
    case OPT_KNOBS:
        ret->knobs = true;
        return CLI_OK;
    case OPT_DRY_RUN:
        ret->dry_run = true;
        return CLI_OK;
    case OPT_CHECK:
        ret->check = true;
        return CLI_OK;
    case OPT_NO_RESET:
        ret->no_reset = true;
        return CLI_OK;
    case OPT_WHEN_BUSY:
        return parse_when_busy(value, ret);
    case OPT_OUTPUT:
        return parse_output(value, ret);
    default:
        return parse_logging(id, value, ret);
    }
}

/* What getopt refused: a missing value, or an option that does not exist. */
static int complain_option(int what, char **argv)
{
    const char *words[ARRAY_LEN(rows)];
    const char *typed = argv[optind - 1];
    if (what == ':')
        return cli_complain(CLI_USAGE, "%s needs a value", typed);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        words[i] = rows[i].option.name;
    const char *meant =
        strncmp(typed, "--", 2) == 0 ? nearest(typed + 2, words, ARRAY_LEN(words)) : NULL;
    return cli_complain(CLI_USAGE, "unknown option %s%s%s%s; see ccnode --help", typed,
                        meant ? ", did you mean --" : "", meant ? meant : "", meant ? "?" : "");
}

static const struct cli_command *find_command(char **words, int n, int *ret_used)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const char *name = commands[i].name, *blank = strchr(name, ' ');
        size_t first = blank ? (size_t)(blank - name) : strlen(name);
        if (n < 1 || strlen(words[0]) != first || strncmp(words[0], name, first) != 0)
            continue;
        if (blank && (n < 2 || strcmp(words[1], blank + 1) != 0))
            continue;
        *ret_used = blank ? 2 : 1;
        return &commands[i];
    }
    return NULL;
}

static int complain_command(char **words, int n)
{
    if (n == 0)
        return cli_complain(CLI_USAGE, "no command; see ccnode --help");
    if (strcmp(words[0], "cdi") == 0)
        return cli_complain(CLI_USAGE, "cdi needs one of: print, write, check");
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i].name;
    const char *meant = nearest(words[0], names, ARRAY_LEN(names));
    return cli_complain(CLI_USAGE, "unknown command %s%s%s%s; see ccnode --help", words[0],
                        meant ? ", did you mean " : "", meant ? meant : "", meant ? "?" : "");
}

static int take_words(const struct cli_command *command, char **words, int n, int used,
                      struct cli_options *ret)
{
    if (command->argument) {
        if (n <= used)
            return cli_complain(CLI_USAGE, "%s needs a mode: on, off, devtools or ppcie",
                                command->name);
        ret->argument = words[used++];
        if (cc_mode_parse(ret->argument) == CC_MODE_UNKNOWN)
            return cli_complain(CLI_USAGE, "%s is not a mode; allowed are on, off, devtools, ppcie",
                                ret->argument);
    }
    if (command->selector && n > used)
        ret->selector = words[used++];
    if (n > used)
        return cli_complain(CLI_USAGE, "%s is too much for %s%s", words[used], command->name,
                            command->selector ? "; several selectors are joined with commas" : "");
    return CLI_OK;
}

static int check_use(const struct cli_command *command, const bool given[ARRAY_LEN(rows)])
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (given[i] && rows[i].use && !(rows[i].use & command->options))
            return cli_complain(CLI_USAGE, "%s has no option --%s; see ccnode %s --help",
                                command->name, rows[i].option.name, command->name);
    return CLI_OK;
}

int options_parse(int argc, char **argv, struct cli_options *ret,
                  const struct cli_command **ret_command)
{
    struct option options[ARRAY_LEN(rows) + 1] = {0};
    bool given[ARRAY_LEN(rows)] = {false}, help = false;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        options[i] = rows[i].option;
    const char *root = getenv("CCNODE_HOST_ROOT");
    *ret = (struct cli_options){.host_root = root && *root ? root : "/", .driver = "auto"};
    *ret_command = NULL;
    optind = 0;
    opterr = 0;
    for (int id; (id = getopt_long(argc, argv, ":o:h", options, NULL)) != -1;) {
        if (id == '?' || id == ':')
            return complain_option(id, argv);
        id = id == 'o' ? OPT_OUTPUT : id == 'h' ? OPT_HELP : id;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
            given[i] = given[i] || rows[i].option.val == id;
        if (id == OPT_VERSION) {
            (void)printf("ccnode %s\n", CCN_VERSION);
            return CLI_OK;
        }
        help = help || id == OPT_HELP;
        int r = id == OPT_HELP ? CLI_OK : take_option(id, optarg, ret);
        if (r != CLI_OK)
            return r;
    }
    int used = 0, n = argc - optind;
    const struct cli_command *command = find_command(argv + optind, n, &used);
    if (help) {
        print_help(command);
        return CLI_OK;
    }
    if (!command)
        return complain_command(argv + optind, n);
    ret->command = command->name;
    int r = check_use(command, given);
    if (r == CLI_OK)
        r = take_words(command, argv + optind, n, used, ret);
    if (r == CLI_OK)
        *ret_command = command;
    return r;
}
