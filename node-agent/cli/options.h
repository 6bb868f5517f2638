/* Command line of ccnode into struct cli_options, and the help texts. Pure but for printing. */
#ifndef CCN_CLI_OPTIONS_H
#define CCN_CLI_OPTIONS_H

#include "node-agent/cli/cli.h"

struct cli_command {
    const char *name;     /* "cdi print" */
    const char *synopsis; /* "set-mode MODE [SEL]" */
    const char *does;
    unsigned options;  /* set of OPT_… */
    bool argument;     /* takes MODE */
    bool selector;     /* takes SEL */
    bool needs_config; /* false: works with a broken configuration too */
    int (*run)(struct cli *cli);
};

/* cli_commands() - all, in the order of the help */
const struct cli_command *cli_commands(size_t *n);

/**
 * options_parse() - @argv into @ret; strings point into @argv
 * @ret_command: what to run; NULL when help or version was printed
 * Return: CLI_OK; CLI_USAGE after a complaint.
 */
int options_parse(int argc, char **argv, struct cli_options *ret,
                  const struct cli_command **ret_command);

/* duration_parse() - "90s", "5m", "1h", "250ms" or plain seconds. Return: milliseconds or -EINVAL. */
int64_t duration_parse(const char *text);

#endif
