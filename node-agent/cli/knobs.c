#include "node-agent/cli/knobs.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/cli/table.h"

struct asking {
    struct cli *cli;
    size_t device, *left;
    bool *done;
    struct json_object **ret;
    struct worker *worker;
    int status;
};

static void on_knobs(void *arg, const struct worker_answer *answer)
{
    struct asking *asking = arg;
    struct observed_device *d = &asking->cli->observed.devices[asking->device];
    struct json_object *list = NULL;
    if (answer->ok && json_object_object_get_ex(answer->members, "knobs", &list) &&
        json_object_is_type(list, json_type_array)) {
        *asking->ret = json_object_get(list);
    } else {
        asking->status = CLI_FAILED;
        if (!*d->error)
            (void)snprintf(d->error, sizeof d->error, "%s%s%s",
                           answer->ok ? "the answer has no knobs" : answer->error,
                           *answer->cure ? "; " : "", answer->cure);
    }
    worker_close(asking->worker);
    *asking->done = --*asking->left == 0;
}

int knobs_read(struct cli *cli, struct json_object *ret[static NV_MAX_DEVICES])
{
    struct asking asking[NV_MAX_DEVICES];
    size_t left = 0, n = 0;
    bool done = false;
    int status = CLI_OK;
    for (size_t i = 0; i < cli->observed.n; i++) {
        struct err err = ERR_INIT;
        struct observed_device *d = &cli->observed.devices[i];
        if (!cli->chosen[i])
            continue;
        if (cli_in_use(&cli->observed, i)) {
            status = cli_worse(status, CLI_IN_USE);
            continue;
        }
        if (!*d->dev.chip)
            continue; /* a chip without CC has no knobs */
        struct asking *one = &asking[n];
        *one = (struct asking){.cli = cli, .device = i, .left = &left, .done = &done};
        one->ret = &ret[i];
        one->worker = worker_open(cli->workers, d->dev.bdf, &err);
        if (!one->worker) {
            (void)snprintf(d->error, sizeof d->error, "%s", err.msg);
            status = cli_worse(status, CLI_FAILED);
            continue;
        }
        n++;
        left++;
        worker_step(one->worker, WORKER_KNOBS, NULL, on_knobs, one);
    }
    done = left == 0;
    cli_run_until(cli, &done);
    cli_settle(cli);
    for (size_t i = 0; i < n; i++)
        status = cli_worse(status, asking[i].status);
    return status;
}

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(object, key, &value) || !value)
        return "";
    return json_object_get_string(value);
}

void knobs_print(const struct cli *cli, struct json_object *const knobs[static NV_MAX_DEVICES])
{
    for (size_t i = 0; i < cli->observed.n; i++) {
        struct table table;
        if (!cli->chosen[i] || !knobs[i])
            continue;
        (void)printf("\n%s %s\n", cli->observed.devices[i].dev.bdf,
                     cli->observed.devices[i].dev.name);
        table_new(&table, "KNOB NAME VALUE STATUS");
        for (size_t k = 0; k < json_object_array_length(knobs[i]); k++) {
            struct json_object *knob = json_object_array_get_idx(knobs[i], k);
            table_cell(&table, "%s", text_of(knob, "id"));
            table_cell(&table, "%s", text_of(knob, "name"));
            table_cell(&table, "%s", text_of(knob, "value"));
            table_cell(&table, "%s", text_of(knob, "status"));
        }
        table_print(&table, stdout);
    }
}
