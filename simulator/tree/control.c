#include "simulator/tree/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "simulator/tree/kernel.h"
#include "simulator/tree/platform.h"

/* The log of writes keeps whole lines; when it is full the older half goes. */
#define LOG_ROOM ((size_t)256 * 1024)

static struct {
    char *text; /* LOG_ROOM + 1 bytes */
    size_t len;
    unsigned long count, kill_at;
    enum model_kill kill_who;
} writes;

/* part of a longer text, for files that are larger than a page */
static ssize_t part(const char *text, size_t len, char *buf, size_t room, off_t at)
{
    if (at >= (off_t)len)
        return 0;
    size_t n = len - (size_t)at;
    n = n < room ? n : room;
    memcpy(buf, text + at, n);
    return (ssize_t)n;
}

static void print_device(FILE *f, struct pdev *d)
{
    (void)fprintf(f,
                  "%s hw=%d present=%d plugged=%d model=%s driver=%s group=%d users=%d holder=%d "
                  "nvidia=%d vfio=%d power=%s control=%s locked=%d\n",
                  d->bdf, d->hw, d->present, d->plugged, d->spec->model,
                  d->driver ? d->driver->name : "-", d->group ? d->group->number : -1,
                  pdev_users(d), d->group ? (int)d->group->holder : 0, d->nvidia_no, d->vfio_no,
                  power_name(d), d->pm_auto ? "auto" : "on", d->locked);
}

static ssize_t read_devices(struct node *node, char *buf, size_t room, off_t at)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    (void)node;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (size_t i = 0; i < kernel.n_devices; i++)
        if (kernel.devices[i].spec)
            print_device(f, &kernel.devices[i]);
    (void)fclose(f);
    return part(text, len, buf, room, at);
}
static const struct node_ops devices_ops = {.pread = read_devices};

static ssize_t read_writes(struct node *node, char *buf, size_t room, off_t at)
{
    (void)node;
    return part(writes.text, writes.len, buf, room, at);
}
static const struct node_ops writes_ops = {.pread = read_writes};

static void forget_half(void)
{
    const char *half = strchr(writes.text + LOG_ROOM / 2, '\n');
    size_t cut = half ? (size_t)(half + 1 - writes.text) : writes.len;
    writes.len -= cut;
    memmove(writes.text, writes.text + cut, writes.len + 1);
}

enum model_kill control_wrote(const char *path, const char *text, int error)
{
    if (strncmp(path, "/ctl/", 5) == 0)
        return MODEL_KILL_NONE;
    AUTO_FREE char *line =
        xasprintf("%lu %d %s %.64s\n", ++writes.count, error, path, *text ? text : "\\n");
    size_t len = strlen(line);
    if (!writes.text)
        writes.text = xcalloc(1, LOG_ROOM + 1);
    if (writes.len + len > LOG_ROOM)
        forget_half();
    memcpy(writes.text + writes.len, line, len + 1);
    writes.len += len;
    if (writes.kill_at == 0 || --writes.kill_at > 0)
        return MODEL_KILL_NONE;
    return writes.kill_who;
}

static int store_plug(struct node *node, const char *text)
{
    struct pdev *dev = pdev_any(text);
    (void)node;
    if (!dev || !dev->spec)
        return -ENODEV;
    if (dev->plugged)
        return -EBUSY;
    dev->plugged = true;
    model_plug(kernel.model, dev->hw, true);
    bus_rescan();
    return 0;
}
static const struct node_ops plug_ops = {.store = store_plug, .waits = true};

static int store_unplug(struct node *node, const char *text)
{
    struct pdev *dev = pdev_any(text);
    if (!dev || !dev->spec || !dev->plugged)
        return -ENODEV;
    if (node->arg) /* surprise */
        model_plug(kernel.model, dev->hw, false);
    dev->plugged = false;
    if (dev->present)
        (void)pdev_remove(dev);
    model_plug(kernel.model, dev->hw, false);
    return 0;
}
static const struct node_ops unplug_ops = {.store = store_unplug, .waits = true};

static int store_modprobe(struct node *node, const char *text)
{
    return node->arg ? module_unload(text) : module_load(text);
}
static const struct node_ops modprobe_ops = {.store = store_modprobe, .waits = true};

static int store_kill_at(struct node *node, const char *text)
{
    struct err ignored = ERR_INIT;
    uint64_t n = 0;
    AUTO_FREE char *number = xstrdup(text);
    char *who = strchr(number, ' ');
    int kill = MODEL_KILL_SELF;
    (void)node;
    if (who)
        *who++ = '\0';
    while (who && model_kill_name(kill) && strcmp(model_kill_name(kill), who) != 0)
        kill++;
    if (!model_kill_name(kill) || parse_u64(number, 1000000000, &n, &ignored) < 0)
        return -EINVAL;
    writes.kill_at = n;
    writes.kill_who = (enum model_kill)kill;
    return 0;
}
static ssize_t show_kill_at(struct node *node, char *buf)
{
    (void)node;
    return sprintf(buf, "%lu\n", writes.kill_at);
}
static const struct node_ops kill_at_ops = {.show = show_kill_at, .store = store_kill_at};

static int store_refresh(struct node *node, const char *text)
{
    (void)node, (void)text;
    kernel_refresh();
    return 0;
}
static const struct node_ops refresh_ops = {.store = store_refresh};

void control_setup(void)
{
    struct node *dir = node_path("ctl");
    node_file(dir, "devices", 0444, &devices_ops, NULL, 0);
    node_file(dir, "writes", 0444, &writes_ops, NULL, 0);
    node_file(dir, "plug", 0200, &plug_ops, NULL, 0);
    node_file(dir, "unplug", 0200, &unplug_ops, NULL, 0);
    node_file(dir, "unplug-surprise", 0200, &unplug_ops, NULL, 1);
    node_file(dir, "modprobe", 0200, &modprobe_ops, NULL, 0);
    node_file(dir, "rmmod", 0200, &modprobe_ops, NULL, 1);
    node_file(dir, "kill-at-write", 0600, &kill_at_ops, NULL, 0);
    node_file(dir, "refresh", 0200, &refresh_ops, NULL, 0);
}
