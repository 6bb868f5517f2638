/* Files of the state directory: a journal that is accepted is written the same again; orders belong to this node. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/journal.h"
#include "node-agent/last_node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct journal journal, again;
    struct last_node last = {0};
    struct err err = ERR_INIT;
    if (journal_parse((const char *)data, size, &journal, &err) == 0) {
        AUTO_FREE char *text = journal_format(&journal);
        if (journal_parse(text, strlen(text), &again, &err) < 0 || again.n != journal.n)
            abort();
    }
    err = ERR_INIT;
    if (last_node_parse((const char *)data, size, "n1", &last, &err) == 0 &&
        strcmp(last.name, "n1") != 0)
        abort();
    last_node_done(&last);
    return 0;
}
