/* ccnode: modes, VFIO binding and CDI of the GPUs and NVSwitches of one host, without Kubernetes. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fs.h"
#include "node-agent/cli/options.h"

#define DEFAULT_CONFIG "/etc/ccnode/ccnode.yaml"

/* The configuration of the agent counts here too: what is managed, names, directories. */
static int load_config(struct cli *cli, bool needed)
{
    struct err err = ERR_INIT;
    const char *path = cli->options.config_path;
    AUTO_FREE char *fallback = host_path(&cli->host, DEFAULT_CONFIG);
    config_default(&cli->config);
    if (!path && access(fallback, F_OK) != 0)
        return CLI_OK;
    struct config loaded = {0};
    if (config_load(path ? path : fallback, &loaded, &err) < 0)
        return needed ? cli_complain(CLI_USAGE, "%s", err.msg) : CLI_OK;
    config_done(&cli->config);
    cli->config = loaded;
    return CLI_OK;
}

static void on_signal(void *arg, int signo)
{
    struct cli *cli = arg;
    if (cli->interrupted == 0 && cli->on_interrupt) {
        cli->interrupted = signo;
        cli->on_interrupt(cli->interrupt_arg);
        return;
    }
    /* nothing under way that has to come to an end, or asked twice */
    (void)signal(signo, SIG_DFL);
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, signo);
    (void)raise(signo);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int set_up(struct cli *cli, const struct cli_command *command)
{
    struct err err = ERR_INIT;
    if (host_open(&cli->host, cli->options.host_root, &err) < 0)
        return cli_complain(CLI_USAGE, "%s", err.msg);
    int r = load_config(cli, command->needs_config);
    if (r != CLI_OK)
        return r;
    const struct cli_options *o = &cli->options;
    log_setup(o->log_level_given ? o->log_level : cli->config.log_level,
              o->log_format_given ? o->log_format : cli->config.log_format);
    cli->loop = loop_new(NULL, NULL);
    if (loop_add_signal(cli->loop, SIGINT, on_signal, cli, &err) < 0 ||
        loop_add_signal(cli->loop, SIGTERM, on_signal, cli, &err) < 0)
        return cli_complain(CLI_FAILED, "%s", err.msg);
    /* A broken journal is set aside and told; what it vouched for is then unknown, which is the safe side. */
    if (journal_load(&cli->host, cli->config.state_directory, &cli->journal, &err) < 0 &&
        err.code != ENOENT && err.code != EACCES)
        cli_warn("%s", err.msg);
    return CLI_OK;
}

static void tear_down(struct cli *cli)
{
    rpc_free(cli->rpc);
    workers_free(cli->workers);
    loop_free(cli->loop);
    memory_done(&cli->memory);
    config_done(&cli->config);
    host_close(&cli->host);
}

int main(int argc, char **argv)
{
    static struct cli cli; /* large: zero at start, so that it takes no room in the file */
    cli.host.root_fd = -1;
    const struct cli_command *command = NULL;
    int status = options_parse(argc, argv, &cli.options, &command);
    if (status != CLI_OK || !command)
        return status;
    (void)signal(SIGPIPE, SIG_IGN);
    status = set_up(&cli, command);
    if (status == CLI_OK)
        status = command->run(&cli);
    tear_down(&cli);
    if (fflush(stdout) != 0 && status == CLI_OK)
        status = cli_complain(CLI_FAILED, "standard output: %s", strerror(errno));
    return status;
}
