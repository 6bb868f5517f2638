/* Lines of ccnode-device: as answers to each step, as reports, as lists of holders. */
#include <json-c/json.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/bus_view.h"
#include "node-agent/observe.h"
#include "tests/unit/agent/fake_node.h"

static void try_bus(const struct worker_answer *answer)
{
    static struct bus_device devices[NV_MAX_DEVICES];
    size_t n = bus_view_parse(answer, devices);
    if (n > NV_MAX_DEVICES)
        abort();
    for (size_t i = 0; i < n; i++) {
        if (!memchr(devices[i].power, 0, sizeof devices[i].power) || devices[i].fatal < -1)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_report(const struct worker_answer *answer)
{
    struct err err = ERR_INIT;
    struct nv_report report = {0};
    if (worker_report(answer, &report, &err) == 0 && !answer->ok)
        abort();
    if (report.active > CC_MODE_INVALID || report.pending > CC_MODE_INVALID)
        abort();
}

static void try_holders(const struct worker_answer *answer)
{
    static struct observed node;
    make_node(&node, 2, 1);
    if (!observe_holders(&node, answer))
        return;
    for (size_t i = 0; i < node.n; i++) {
        for (size_t h = 0; h < node.devices[i].n_holders && h < NV_MAX_HOLDERS; h++) {
            if (!memchr(node.devices[i].holders[h].comm, 0, sizeof node.devices[i].holders[h].comm))
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *line = xstrndup((const char *)data, size);
    for (int step = 0; step < WORKER_STEP_MAX; step++) {
        struct worker_answer answer;
        char driver[32] = "";
        if (worker_answer_parse(line, size, (enum worker_step)step, &answer) < 0) {
            if (answer.members || answer.ok)
                abort();
            continue;
        }
        worker_answer_text(&answer, "driver", driver, sizeof driver);
        try_report(&answer);
        try_holders(&answer);
        try_bus(&answer);
        json_object_put(answer.members);
    }
    return 0;
}
