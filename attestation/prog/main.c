#include <errno.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "base/auto.h"
#include "version.h"

static const struct {
    const char *name;
    int (*run)(const struct opts *opts);
    bool gate; /* may touch the ready state */
} commands[] = {
    {"verify", cmd_verify, false},
    {"check", cmd_check, false},
    {"validate-token", cmd_validate_token, false},
    {"collect", cmd_collect, false},
    {"collect-evidence", cmd_collect, false},
    {"attest", cmd_attest, true},
    {"status", cmd_status, false},
    {"ready", cmd_ready, true},
};

/* Who asks for the gate must not be left to believe that it was opened or closed. */
static int check_gate(const char *command, const struct opts *opts, struct err *err)
{
    const char *option = opts->set_ready           ? "--set-ready"
                         : opts->revoke_on_failure ? "--revoke-on-failure"
                                                   : NULL;
    return option ? err_set(err, EINVAL, "%s does not touch the ready state, %s belongs to attest",
                            command, option)
                  : 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct opts opts;
    const char *name = argc > 1 ? argv[1] : "--help";
    /* no configuration file of the host may change what is a valid signature */
    (void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("ccnode-attest %s\n", CCN_VERSION);
        return EXIT_ACCEPTED;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        opts_help();
        return argc > 1 ? EXIT_ACCEPTED : EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i].name) != 0)
            continue;
        if (opts_parse(argc - 2, argv + 2, &opts, &err) < 0)
            return complain(EXIT_USAGE, &err);
        log_setup(opts.level, opts.lines);
        if (opts.help) {
            opts_help();
            return EXIT_ACCEPTED;
        }
        if (!commands[i].gate && check_gate(name, &opts, &err) < 0)
            return complain(EXIT_USAGE, &err);
        return commands[i].run(&opts);
    }
    (void)err_set(&err, EINVAL, "unknown command %s (ccnode-attest --help lists them)", name);
    return complain(EXIT_USAGE, &err);
}
