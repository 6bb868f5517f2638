/* ccnode, the host command line: what its commands share.
 *
 * One process, one loop, one command. Everything that is done to a device goes the way of the agent: observe -> plan ->
 * act, workers included; a command makes an intent of its arguments and tells what came of it. Commands block: they
 * run the loop until their answer is there.
 */
#ifndef CCN_CLI_CLI_H
#define CCN_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/host.h"
#include "base/loop.h"
#include "base/rpc.h"
#include "node-agent/config.h"
#include "node-agent/journal.h"
#include "node-agent/observe.h"
#include "node-agent/workers.h"

/* Exit status of every command (interface.md 2). Where several apply: 1 before 3 before 4. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,     /* at least one device failed */
    CLI_USAGE = 2,      /* usage or configuration */
    CLI_IN_USE = 3,     /* refused, somebody uses it */
    CLI_IMPOSSIBLE = 4, /* refused: hardware, firmware or policy */
    CLI_NO_DEVICE = 5,  /* nothing matches */
};

struct cli_options {
    const char *command;  /* "list", "cdi print", …, as in the table of commands */
    const char *argument; /* MODE of set-mode; NULL */
    const char *selector; /* NULL: all managed devices */
    const char *config_path, *host_root;
    const char *driver; /* bind; "auto" */
    const char *dir;    /* cdi; NULL: from the configuration */
    bool json, knobs, dry_run, no_reset, check;
    bool wait_when_busy;
    int64_t wait_ms; /* -1: for ever */
    bool log_level_given, log_format_given;
    enum log_level log_level;
    enum log_format log_format;
};

struct cli {
    struct cli_options options;
    struct host host;
    struct config config;
    struct loop *loop;
    struct workers *workers; /* NULL until cli_workers() */
    struct rpc *rpc;         /* NULL until cli_rpc() */
    struct memory memory;
    struct journal journal;
    struct observed observed;           /* of the last cli_look() */
    char read_code[NV_MAX_DEVICES][24]; /* errno name of a query that failed; "" = none */
    bool chosen[NV_MAX_DEVICES];        /* by cli_choose(), as observed.devices */
    size_t n_chosen;
    int interrupted; /* a signal that asked us to stop; 0 = none */
    void (*on_interrupt)(void *arg);
    void *interrupt_arg;
};

/* cli_complain() - "ccnode: <text>" on standard error. Return: @status, so that `return cli_complain(…)` reads well. */
int cli_complain(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* cli_run_until() - run the loop until *@done */
void cli_run_until(struct cli *cli, const bool *done);
int cli_workers(struct cli *cli, struct err *err);
int cli_rpc(struct cli *cli, struct err *err);

/**
 * cli_look() - observe into cli->observed
 * @users: who uses the devices too (processes; pods where a kubelet listens)
 * Return: 0 or -errno, with a message when sysfs could not be read.
 */
int cli_look(struct cli *cli, bool users, struct err *err);

/* cli_choose() - the devices that the selector names, or all managed ones. Return: CLI_OK, or a status after a
 * complaint. */
int cli_choose(struct cli *cli);

/* cli_managed() - flags of the managed devices, as observed.devices */
void cli_managed(const struct cli *cli, bool ret[static NV_MAX_DEVICES]);

/**
 * cli_read_modes() - registers of the chosen idle devices into cli->observed, all at the same time
 * Devices in use keep what the journal vouches for. A device that cannot be read keeps KNOWN_NOT and the reason in
 * its `error`, and cli->read_code.
 */
void cli_read_modes(struct cli *cli);

/* cli_settle() - wait until workers that were closed have gone, and with them their locks; at most some seconds */
void cli_settle(struct cli *cli);
/* cli_status_of() - what the errno name of a failed step means: CLI_IN_USE, CLI_IMPOSSIBLE or CLI_FAILED */
int cli_status_of(const char *code, enum worker_step step);

/* cli_in_use() - somebody uses it, or that is not known */
bool cli_in_use(const struct observed *observed, size_t i);
/* cli_users() - "qemu-system-x86 (pid 12, /dev/vfio/7)", "pod ml/train", …; the caller's, one string each.
 * Return: their number. */
size_t cli_users(const struct observed *observed, size_t i, char **ret, size_t room);

/* cli_worse() - of two exit statuses the one that counts */
int cli_worse(int a, int b);

/* cli_agent_pid() - the agent that works on this host, 0 = none */
int cli_agent_pid(const struct host *host);

/* The commands. Return: exit status. */
int cmd_list(struct cli *cli);
int cmd_get_mode(struct cli *cli);
int cmd_set_mode(struct cli *cli);
int cmd_bind(struct cli *cli);
int cmd_unbind(struct cli *cli);
int cmd_cdi_print(struct cli *cli);
int cmd_cdi_write(struct cli *cli);
int cmd_cdi_check(struct cli *cli);
int cmd_names(struct cli *cli);
int cmd_preflight(struct cli *cli);
int cmd_status(struct cli *cli);

#endif
