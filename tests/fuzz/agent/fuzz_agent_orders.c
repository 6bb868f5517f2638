/* What users write on the Node: first line the label cc.mode, second the workload, the rest the annotation of device
 * modes. Through intent, plan and publish: what is not understood changes nothing and is told. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/publish.h"
#include "tests/unit/agent/fake_node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct observed node;
static struct intent intent;
static struct plan plan;
static struct publish_device devices[NV_MAX_DEVICES];

static bool is_a_mode(const char *text)
{
    return !*text || cc_mode_parse(text) != CC_MODE_UNKNOWN;
}

static void check(const char *mode, const char *annotation, const struct published *told)
{
    bool all_left = true;
    for (size_t i = 0; i < intent.n; i++)
        all_left = all_left && intent.devices[i].mode == CC_MODE_UNKNOWN;
    /* the annotation may name every device and so make the label's value idle */
    if (!is_a_mode(mode) && !*annotation && !all_left)
        abort();
    if (!is_a_mode(mode) && !*intent.problem_reason)
        abort();
    for (const char *p = intent.problem; *p; p++) {
        if (iscntrl((unsigned char)*p))
            abort(); /* it goes into logs, conditions and terminals */
    }
    if (!*told->cond_reason || !*told->cond_message)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    if (!config.vfio_driver)
        config_default(&config);
    AUTO_FREE char *text = xstrndup((const char *)data, size);

    char *rest = text;
    const char *mode = strsep(&rest, "\n");
    const char *workload = rest ? strsep(&rest, "\n") : "";
    const char *annotation = rest ? rest : "";
    const struct key_value labels[] = {{LABEL_MODE, mode}, {LABEL_WORKLOAD, workload}};
    const struct key_value annotations[] = {{ANNOTATION_DEVICE_MODES, annotation}};
    struct node_wish wish = {.known = true,
                             .cluster_policy = "",
                             .n_labels = 2,
                             .labels = labels,
                             .n_annotations = 1,
                             .annotations = annotations};
    make_node(&node, 3, 1);
    intent_resolve(&config, &wish, &node, &intent);

    struct plan_options options = {.vfio_driver = config.vfio_driver, .manage_vfio = true};
    struct journal journal = {0};
    plan_make(&options, &intent, &node, &journal, &plan);
    struct publish_input in = {&config, &intent, &node, &plan, devices, "", "", NULL};
    struct published told = {0};
    publish_derive(&in, &told);
    check(mode, annotation, &told);
    publish_done(&told);
    return 0;
}
