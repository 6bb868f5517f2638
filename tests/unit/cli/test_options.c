#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "node-agent/cli/options.h"

/* Parses a command line given as one text. Standard error is kept in @said. */
static char said[2048];

static int parse(const char *line, struct cli_options *ret, const struct cli_command **ret_command)
{
    static char copy[512];
    char *argv[32] = {(char[]){"ccnode"}}, *rest = NULL;
    int argc = 1;
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok_r(copy, " ", &rest); word && argc < 31;
         word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    int pipe_fds[2], old = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
    int r = options_parse(argc, argv, ret, ret_command);
    (void)fflush(stderr);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    (void)close(old);
    (void)close(pipe_fds[1]);
    ssize_t n = read(pipe_fds[0], said, sizeof said - 1);
    said[n > 0 ? n : 0] = '\0';
    (void)close(pipe_fds[0]);
    return r;
}

static void test_commands(void **state)
{
    (void)state;
    static const struct {
        const char *line, *command, *argument, *selector;
    } rows[] = {
        {"list", "list", NULL, NULL},
        {"list gpus[0:4],nvswitches -o json", "list", NULL, "gpus[0:4],nvswitches"},
        {"get-mode 18:00.0 --knobs", "get-mode", NULL, "18:00.0"},
        {"set-mode on", "set-mode", "on", NULL},
        {"--host-root /x set-mode ppcie gpus --dry-run", "set-mode", "ppcie", "gpus"},
        {"bind 10de:2331 --driver vfio-pci", "bind", NULL, "10de:2331"},
        {"unbind", "unbind", NULL, NULL},
        {"cdi print", "cdi print", NULL, NULL},
        {"cdi --dir /run/cdi write", "cdi write", NULL, NULL},
        {"cdi check", "cdi check", NULL, NULL},
        {"names", "names", NULL, NULL},
        {"preflight", "preflight", NULL, NULL},
        {"status", "status", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cli_options o;
        const struct cli_command *command = NULL;
        assert_int_equal(parse(rows[i].line, &o, &command), CLI_OK);
        assert_non_null(command);
        assert_string_equal(command->name, rows[i].command);
        assert_string_equal(o.argument ? o.argument : "", rows[i].argument ? rows[i].argument : "");
        assert_string_equal(o.selector ? o.selector : "", rows[i].selector ? rows[i].selector : "");
        assert_string_equal(said, "");
    }
}

static void test_values(void **state)
{
    (void)state;
    struct cli_options o;
    const struct cli_command *command;
    assert_int_equal(parse("set-mode off --no-reset --when-busy wait=5m -o json", &o, &command),
                     CLI_OK);
    assert_true(o.no_reset && o.json && o.wait_when_busy && !o.dry_run);
    assert_int_equal(o.wait_ms, 300000);
    assert_int_equal(parse("set-mode off --when-busy wait", &o, &command), CLI_OK);
    assert_int_equal(o.wait_ms, -1);
    assert_int_equal(parse("set-mode off --when-busy=fail", &o, &command), CLI_OK);
    assert_false(o.wait_when_busy);
    assert_int_equal(parse("bind", &o, &command), CLI_OK);
    assert_string_equal(o.driver, "auto");
    (void)setenv("CCNODE_HOST_ROOT", "/host", 1);
    assert_int_equal(parse("list", &o, &command), CLI_OK);
    assert_string_equal(o.host_root, "/host");
    assert_int_equal(parse("list --host-root /other", &o, &command), CLI_OK);
    assert_string_equal(o.host_root, "/other");
    (void)unsetenv("CCNODE_HOST_ROOT");
}

/* Everything that is refused says what was typed and what is allowed. */
static void test_mistakes(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", "no command"},
        {"lst", "did you mean list?"},
        {"cdi", "print, write, check"},
        {"cdi prnt", "print, write, check"},
        {"set-mode", "needs a mode"},
        {"set-mode maybe", "allowed are on, off, devtools, ppcie"},
        {"set-mode on gpus nvswitches", "joined with commas"},
        {"names gpus", "too much for names"},
        {"list --knobs", "list has no option --knobs"},
        {"list --dry-run", "list has no option --dry-run"},
        {"set-mode on --dryrun", "did you mean --dry-run?"},
        {"set-mode on --when-busy", "needs a value"},
        {"set-mode on --when-busy soon", "wait=DURATION"},
        {"set-mode on --when-busy wait=x", "wait=DURATION"},
        {"list -o yaml", "table and json"},
        {"list -q", "unknown option"},
        {"list --log-level loud", "loud"},
        {"cdi write --dir here", "absolute"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cli_options o;
        const struct cli_command *command = NULL;
        assert_int_equal(parse(rows[i][0], &o, &command), CLI_USAGE);
        assert_null(command);
        if (!strstr(said, rows[i][1]))
            fail_msg("'%s' is answered by '%s', without '%s'", rows[i][0], said, rows[i][1]);
        assert_true(strncmp(said, "ccnode: ", 8) == 0);
    }
}

static void test_durations(void **state)
{
    (void)state;
    assert_int_equal(duration_parse("250ms"), 250);
    assert_int_equal(duration_parse("90s"), 90000);
    assert_int_equal(duration_parse("90"), 90000);
    assert_int_equal(duration_parse("5m"), 300000);
    assert_int_equal(duration_parse("1h"), 3600000);
    static const char *const bad[] = {"",         "s",  "-1s", "1d", "1 s", "99999999999999999999",
                                      "1000001s", " 1s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_true(duration_parse(bad[i]) < 0);
}

static void test_worst_status(void **state)
{
    (void)state;
    assert_int_equal(cli_worse(CLI_OK, CLI_OK), CLI_OK);
    assert_int_equal(cli_worse(CLI_IMPOSSIBLE, CLI_IN_USE), CLI_IN_USE);
    assert_int_equal(cli_worse(CLI_IN_USE, CLI_FAILED), CLI_FAILED);
    assert_int_equal(cli_worse(CLI_IMPOSSIBLE, CLI_OK), CLI_IMPOSSIBLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_mistakes),     cmocka_unit_test(test_durations),
        cmocka_unit_test(test_worst_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
