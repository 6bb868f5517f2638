/* Values of labels and annotations, "MODE\nWORKLOAD\nDEVICE MODES": what is not understood changes nothing and is told. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/intent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct observed node;

static void make_node(void)
{
    node.n = 3;
    node.snp = true;
    for (size_t i = 0; i < node.n; i++) {
        struct nv_device *dev = &node.devices[i].dev;
        dev->kind = i < 2 ? NV_KIND_GPU : NV_KIND_NVSWITCH;
        (void)snprintf(dev->bdf, sizeof dev->bdf, "0000:1%zu:00.0", i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    char *save = NULL;
    const char *mode = strtok_r(text, "\n", &save);
    const char *workload = strtok_r(NULL, "\n", &save);
    const char *modes = save;
    const struct key_value labels[] = {{LABEL_MODE, mode ? mode : ""},
                                       {LABEL_WORKLOAD, workload ? workload : ""}};
    const struct key_value annotation = {ANNOTATION_DEVICE_MODES, modes ? modes : ""};
    struct node_wish wish = {.known = true,
                             .n_labels = 2,
                             .labels = labels,
                             .n_annotations = 1,
                             .annotations = &annotation};
    static struct intent intent;
    struct config config;
    if (node.n == 0)
        make_node();
    config_default(&config);
    intent_resolve(&config, &wish, &node, &intent);
    for (size_t i = 0; i < intent.n; i++) {
        if (intent.devices[i].mode == CC_MODE_INVALID)
            abort();
    }
    for (const char *p = intent.problem; *p; p++) {
        if ((unsigned char)*p < ' ')
            abort(); /* it goes into a condition and a log line */
    }
    config_done(&config);
    return 0;
}
