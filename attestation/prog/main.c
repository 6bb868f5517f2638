#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "attestation/prog/commands.h"
#include "base/auto.h"
#include "version.h"

static const struct {
    const char *name;
    int (*run)(const struct opts *opts);
} commands[] = {
    {"verify", cmd_verify},
    {"check", cmd_check},
    {"validate-token", cmd_validate_token},
    {"collect", cmd_collect},
    {"collect-evidence", cmd_collect},
    {"attest", cmd_attest},
    {"status", cmd_status},
    {"ready", cmd_ready},
};

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
        return commands[i].run(&opts);
    }
    (void)err_set(&err, EINVAL, "unknown command %s (ccnode-attest --help lists them)", name);
    return complain(EXIT_USAGE, &err);
}
