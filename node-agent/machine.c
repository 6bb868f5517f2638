#include "node-agent/machine.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/fs.h"

static void read_word(const struct host *host, const char *path, char ret[MACHINE_ID_SIZE])
{
    AUTO_FREE char *text = NULL;
    struct err ignored = ERR_INIT;
    *ret = '\0';
    if (fs_read(host, path, 256, &text, NULL, &ignored) < 0)
        return;
    text[strcspn(text, " \t\r\n")] = '\0';
    (void)snprintf(ret, MACHINE_ID_SIZE, "%.63s", text);
}

void machine_read(const struct host *host, struct machine *ret)
{
    read_word(host, "/etc/machine-id", ret->id);
    read_word(host, "/sys/class/dmi/id/product_uuid", ret->uuid);
}

enum comparison { NOT_KNOWN, SAME, OTHER };

static enum comparison compare(const char *a, const char *b)
{
    if (!*a || !*b)
        return NOT_KNOWN;
    return strcasecmp(a, b) == 0 ? SAME : OTHER;
}

bool machine_is_other(const struct machine *host, const struct machine *node, char *why,
                      size_t room)
{
    enum comparison id = compare(host->id, node->id), uuid = compare(host->uuid, node->uuid);
    if (id == SAME || uuid == SAME || (id == NOT_KNOWN && uuid == NOT_KNOWN))
        return false;
    const char *what = id == OTHER ? "machine-id" : "product UUID";
    (void)snprintf(why, room, "the Node has %s %s, this host has %s", what,
                   id == OTHER ? node->id : node->uuid, id == OTHER ? host->id : host->uuid);
    return true;
}
