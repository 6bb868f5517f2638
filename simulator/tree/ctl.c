#include "simulator/tree/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/fs.h"
#include "simulator/tree/hold.h"
#include "simulator/tree/host.h"
#include "simulator/tree/out.h"

#define ANSWER_MAX ((size_t)1024 * 1024)

int ctl_ask(struct ctl *ctl, const char *file, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/.sim/fs/ctl/%s", ctl->root, file);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(&ctl->err, "open %s", path);
    if (write(fd, text, strlen(text)) < 0)
        return err_errno(&ctl->err, "%s %s", file, text);
    return 0;
}

static int read_file(struct ctl *ctl, const char *file, char **ret)
{
    AUTO_FREE char *path = xasprintf("%s/.sim/fs/ctl/%s", ctl->root, file);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(&ctl->err, "open %s", path);
    return fs_read_fd(fd, path, ANSWER_MAX, ret, NULL, &ctl->err);
}

int ctl_device(struct ctl *ctl, const char *text)
{
    int found = model_find(ctl->model, text);
    if (found >= 0)
        return found;
    for (int hw = 0; hw < model_count(ctl->model); hw++) {
        if (!strstr(model_desc(ctl->model, hw)->bdf, text))
            continue;
        if (found >= 0)
            return err_set(&ctl->err, EINVAL, "'%s' is a part of more than one address: %s and %s",
                           text, model_desc(ctl->model, found)->bdf,
                           model_desc(ctl->model, hw)->bdf);
        found = hw;
    }
    if (found < 0 || !*text)
        return err_set(&ctl->err, ENODEV, "no device '%s' on this node: see ccnode-sim ctl devices",
                       text);
    return found;
}

int ctl_number(struct ctl *ctl, const char *text, uint64_t max, uint64_t *ret)
{
    int r = parse_u64(text, max, ret, &ctl->err);
    return r < 0 ? err_wrap(&ctl->err, r, "'%.40s'", text) : 0;
}

/* --- commands of the server -------------------------------------------------------------------------------- */
static int ctl_devices(struct ctl *ctl)
{
    AUTO_FREE char *text = NULL;
    char *line_save = NULL;
    int r = read_file(ctl, "devices", &text);
    if (r < 0)
        return r;
    out_list();
    for (char *line = strtok_r(text, "\n", &line_save); line;
         line = strtok_r(NULL, "\n", &line_save)) {
        char *save = NULL;
        out_object();
        out_text("bdf", strtok_r(line, " ", &save));
        for (char *word; (word = strtok_r(NULL, " ", &save));) {
            char *value = strchr(word, '=');
            if (!value)
                continue;
            *value++ = '\0';
            out_word(word, value);
        }
        out_object_end();
    }
    out_list_end();
    return 0;
}

static int ctl_writes(struct ctl *ctl)
{
    AUTO_FREE char *text = NULL;
    char *save = NULL;
    int r = read_file(ctl, "writes", &text);
    if (r < 0)
        return r;
    out_list();
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *rest = NULL;
        const char *number = strtok_r(line, " ", &rest), *error = strtok_r(NULL, " ", &rest);
        const char *path = strtok_r(NULL, " ", &rest);
        if (!path)
            continue;
        out_object();
        out_word("number", number);
        out_word("errno", error);
        out_text("path", path);
        out_text("text", rest);
        out_object_end();
    }
    out_list_end();
    return 0;
}

/* the address in full, also of a device that is unplugged */
static int ask_for_device(struct ctl *ctl, const char *file)
{
    int hw = ctl_device(ctl, ctl->argv[0]);
    return hw < 0 ? hw : ctl_ask(ctl, file, model_desc(ctl->model, hw)->bdf);
}

static int ctl_plug(struct ctl *ctl)
{
    return ask_for_device(ctl, "plug");
}

static int ctl_unplug(struct ctl *ctl)
{
    return ask_for_device(ctl, "unplug");
}

static int ctl_unplug_surprise(struct ctl *ctl)
{
    return ask_for_device(ctl, "unplug-surprise");
}

static int ctl_modprobe(struct ctl *ctl)
{
    return ctl_ask(ctl, "modprobe", ctl->argv[0]);
}

static int ctl_rmmod(struct ctl *ctl)
{
    return ctl_ask(ctl, "rmmod", ctl->argv[0]);
}

static void print_left(int64_t left)
{
    out_object();
    out_number("left", left);
    out_object_end();
}

static int ctl_kill_at_write(struct ctl *ctl)
{
    AUTO_FREE char *text = NULL;
    if (ctl->argc > 0) {
        const char *who = ctl->argc > 1 ? ctl->argv[1] : model_kill_name(MODEL_KILL_SELF);
        text = xasprintf("%s %s", ctl->argv[0], who);
        return ctl_ask(ctl, "kill-at-write", text);
    }
    int r = read_file(ctl, "kill-at-write", &text);
    if (r == 0)
        print_left(strtol(text, NULL, 10));
    return r;
}

static int ctl_kill_at(struct ctl *ctl)
{
    uint64_t n = 0;
    int who = MODEL_KILL_SELF;
    if (ctl->argc == 0) {
        print_left((int64_t)model_kill_left(ctl->model));
        return 0;
    }
    int r = ctl_number(ctl, ctl->argv[0], UINT32_MAX, &n);
    while (r == 0 && ctl->argc > 1 && strcmp(model_kill_name(who), ctl->argv[1]) != 0)
        if (!model_kill_name(++who))
            r = err_set(&ctl->err, EINVAL, "self, parent or both, not '%s'", ctl->argv[1]);
    if (r == 0)
        model_kill_at(ctl->model, n, (enum model_kill)who);
    return r;
}

/* --- holders ----------------------------------------------------------------------------------------------- */
static int ctl_hold(struct ctl *ctl)
{
    uint64_t seconds = 0;
    pid_t pid = 0;
    int hw = ctl_device(ctl, ctl->argv[0]);
    int r = hw < 0 ? hw : 0;
    if (r == 0 && ctl->argc > 2)
        r = ctl_number(ctl, ctl->argv[2], 86400, &seconds);
    if (r < 0)
        return r;
    const char *bdf = model_desc(ctl->model, hw)->bdf;
    const char *how = ctl->argc > 1 ? ctl->argv[1] : "device";
    r = hold_start(ctl->root, bdf, how, (unsigned)seconds, &pid, &ctl->err);
    if (r < 0)
        return r;
    out_object();
    out_number("pid", pid);
    out_object_end();
    return 0;
}

static void print_holder(void *arg, const struct holder *h)
{
    (void)arg;
    out_object();
    out_text("bdf", h->bdf);
    out_text("how", h->how);
    out_number("pid", h->pid);
    out_object_end();
}

static int ctl_holders(struct ctl *ctl)
{
    out_list();
    hold_each(ctl->root, print_holder, NULL);
    out_list_end();
    return 0;
}

static int ctl_release(struct ctl *ctl)
{
    const char *bdf = "";
    if (ctl->argc > 0 && strcmp(ctl->argv[0], "all") != 0) {
        int hw = ctl_device(ctl, ctl->argv[0]);
        if (hw < 0)
            return hw;
        bdf = model_desc(ctl->model, hw)->bdf;
    }
    int n = hold_release(ctl->root, bdf);
    if (n == 0 && *bdf)
        return err_set(&ctl->err, ENOENT, "no holder of %s that ctl hold started", bdf);
    return 0;
}

/* --- table ------------------------------------------------------------------------------------------------- */
static const struct command {
    const char *name, *arguments, *help;
    int min, max; /* arguments */
    int (*run)(struct ctl *ctl);
} commands[] = {
    {"devices", "", "as Linux has them: driver, group, users, power", 0, 0, ctl_devices},
    {"state", "[DEV]", "as the hardware is: mode, counters, faults", 0, 1, ctl_state},
    {"modes", "[DEV]", "active mode", 0, 1, ctl_modes},
    {"knobs", "DEV [ID VALUE]", "persistent knobs (pending configuration); or set one", 1, 3,
     ctl_knobs},
    {"counters", "[DEV]", "resets, register and configuration accesses, unknown registers", 0, 1,
     ctl_counters},
    {"trace", "[on|off|DEV]", "record accesses; without argument print them", 0, 1, ctl_trace},
    {"writes", "", "the last writes to files of the node, with errno", 0, 0, ctl_writes},
    {"faults", "[DEV]", "all faults there are; with DEV those it has", 0, 1, ctl_faults},
    {"fault", "DEV|all NAME [VALUE]", "inject a fault; VALUE 0 ends it, default 1", 2, 3,
     ctl_fault},
    {"clear", "[DEV]", "end all faults", 0, 1, ctl_clear},
    {"drift", "DEV MODE", "somebody else switches the mode: knobs and active bits at once", 2, 2,
     ctl_drift},
    {"delays", "[NAME MS]", "how long the hardware takes", 0, 2, ctl_delays},
    {"scale", "F", "factor on every delay; 0 = none", 1, 1, ctl_scale},
    {"advance", "MS", "move the hardware's clock forward", 1, 1, ctl_advance},
    {"plug", "DEV", "put it into its slot", 1, 1, ctl_plug},
    {"unplug", "DEV", "the attention button: waits for users as Linux does", 1, 1, ctl_unplug},
    {"unplug-surprise", "DEV", "pull it out", 1, 1, ctl_unplug_surprise},
    {"hold", "DEV [HOW] [SECONDS]",
     "a process that has it open, prints its pid; HOW: device (default), group, cdev, cdev-open, "
     "resource0, nvidia",
     1, 3, ctl_hold},
    {"holders", "", "processes that hold started", 0, 0, ctl_holders},
    {"release", "[DEV|all]", "end them", 0, 1, ctl_release},
    {"modprobe", "MODULE", "load a kernel module", 1, 1, ctl_modprobe},
    {"rmmod", "MODULE", "unload one", 1, 1, ctl_rmmod},
    {"lockdown", "[LEVEL]", "none, integrity, confidentiality; also downwards", 0, 1, ctl_lockdown},
    {"events", "[N]", "resets and changes of the modes with their time; those after number N", 0, 1,
     ctl_events},
    {"kill-at", "[N [WHO]]",
     "kill the process that does the N-th register access from now; 0 = never; WHO: self, parent "
     "(who started it), both; without argument: how many are left until then",
     0, 2, ctl_kill_at},
    {"kill-at-write", "[N [WHO]]", "the same for writes to files, after the write took effect", 0,
     2, ctl_kill_at_write},
};

static void help(FILE *f)
{
    (void)fputs("ccnode-sim ctl --root DIR [--json] COMMAND\n"
                "DEV is a PCI address or a part of it that only one device has.\n\n",
                f);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        AUTO_FREE char *left = xasprintf("%s %s", commands[i].name, commands[i].arguments);
        (void)fprintf(f, "  %-28s %s\n", left, commands[i].help);
    }
}

static int run(struct ctl *ctl, const struct command *c)
{
    AUTO_FREE char *state = xasprintf("%s/.sim/state", ctl->root);
    pid_t pid = host_tree_pid(ctl->root, &ctl->err);
    int r = pid < 0 ? (int)pid : model_open(state, &ctl->model, &ctl->err);
    if (r == 0)
        r = c->run(ctl);
    if (ctl->model)
        model_close(ctl->model);
    (void)fflush(stdout);
    if (r < 0)
        (void)fprintf(stderr, "ccnode-sim: %s: %s\n", c->name, ctl->err.msg);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int ctl_main(const char *root, int argc, char **argv)
{
    enum { EXIT_USAGE = 2 };
    struct ctl ctl = {.root = root, .err = ERR_INIT};
    if (argc == 0 || strcmp(argv[0], "help") == 0) {
        help(argc ? stdout : stderr);
        return argc ? EXIT_SUCCESS : EXIT_USAGE;
    }
    ctl.argc = argc - 1;
    ctl.argv = argv + 1;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const struct command *c = &commands[i];
        if (strcmp(c->name, argv[0]) != 0)
            continue;
        if (ctl.argc >= c->min && ctl.argc <= c->max)
            return run(&ctl, c);
        (void)fprintf(stderr, "ccnode-sim ctl %s %s: %s\n", c->name, c->arguments, c->help);
        return EXIT_USAGE;
    }
    (void)fprintf(stderr, "ccnode-sim: no ctl command '%s': see ccnode-sim ctl help\n", argv[0]);
    return EXIT_USAGE;
}
