#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/resource_name.h"
#include "cdi/cdi.h"
#include "cdi/names.h"
#include "cdi/ours.h"

static int check_class(const struct cdi_device *dev, const char *class, struct err *err)
{
    if (resource_name_ok(class))
        return 0;
    return err_set(
        err, EINVAL,
        "%s: '%.63s' cannot be the class of a CDI kind: it must start with a letter, end with a "
        "letter "
        "or digit and consist of letters, digits, '_' and '-'; choose another resource name",
        dev->bdf, class);
}

static int check_id(const struct cdi_device *dev, struct err *err)
{
    size_t len = strnlen(dev->id, sizeof dev->id);
    if (len == 0 || (len < sizeof dev->id && cdi_name_is_device(dev->id, len)))
        return 0;
    return err_set(err, EINVAL, "%s: '%.63s' cannot be the name of a CDI device", dev->bdf,
                   dev->id);
}

static int check_node(const struct cdi_device *dev, struct err *err)
{
    if (dev->withdrawn)
        return 0;
    if (dev->iommu_group < 0 && dev->cdev[0] == '\0')
        return err_set(err, EINVAL,
                       "%s has neither an IOMMU group nor a VFIO device node; bind it first",
                       dev->bdf);
    if (dev->cdev[0] && (strncmp(dev->cdev, "vfio", 4) != 0 ||
                         strspn(dev->cdev + 4, "0123456789") != strlen(dev->cdev + 4)))
        return err_set(err, EINVAL, "%s: '%.23s' is not the name of a VFIO device node", dev->bdf,
                       dev->cdev);
    return 0;
}

static void fill_entry(struct cdi_entry *e, const struct cdi_device *dev)
{
    *e = (struct cdi_entry){.iommu_group = dev->iommu_group};
    (void)snprintf(e->bdf, sizeof e->bdf, "%s", dev->bdf);
    (void)snprintf(e->names[RANK_ID], CDI_NAME_SIZE, "%s", dev->id[0] ? dev->id : dev->bdf);
    (void)snprintf(e->names[RANK_BDF], CDI_NAME_SIZE, "%s", dev->bdf);
    if (dev->withdrawn) /* which number it will have when it is bound again is not known */
        return;
    if (dev->cdev[0]) {
        (void)snprintf(e->node, sizeof e->node, "/dev/vfio/devices/%s", dev->cdev);
        (void)snprintf(e->names[RANK_CDEV], CDI_NAME_SIZE, "%s", dev->cdev);
        (void)snprintf(e->names[RANK_NUMBER], CDI_NAME_SIZE, "%s", dev->cdev + 4);
    } else {
        (void)snprintf(e->node, sizeof e->node, "/dev/vfio/%d", dev->iommu_group);
        (void)snprintf(e->names[RANK_NUMBER], CDI_NAME_SIZE, "%d", dev->iommu_group);
    }
}

static int by_bdf(const void *a, const void *b)
{
    const struct cdi_device *x = a, *y = b;
    return strcmp(x->bdf, y->bdf);
}

static struct cdi_entry *find_id(struct cdi_entry *entries, size_t n, const char *id)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].names[RANK_ID], id) == 0)
            return &entries[i];
    return NULL;
}

/* Two functions of a group under one id are one entry, with the node of whichever is offered; offered ones that come here
 * have the same node. The id of a withdrawn device that another one has by now is not its id any more.
 * Return: false: they are two. */
static bool share_entry(struct cdi_entry *entry, struct cdi_entry *other)
{
    bool both = *entry->node && *other->node;
    if (!both && (entry->iommu_group != other->iommu_group || other->iommu_group < 0)) {
        (*other->node ? entry : other)->names[RANK_ID][0] = '\0';
        return false;
    }
    if (!*entry->node) {
        memcpy(other->names[RANK_INDEX], entry->names[RANK_INDEX], CDI_NAME_SIZE);
        *entry = *other;
    }
    return true;
}

/* The entries of one class from devices sorted by BDF. Return: their number or -EEXIST. */
static int class_entries(const struct cdi_device *devices, size_t n, const char *class,
                         struct cdi_entry *ret, struct err *err)
{
    size_t n_entries = 0;
    for (size_t i = 0; i < n; i++) {
        const struct cdi_device *dev = &devices[i];
        bool indexed = strcmp(dev->indexed_class, class) == 0;
        if (!indexed && strcmp(dev->class, class) != 0)
            continue;
        struct cdi_entry *e = &ret[n_entries];
        fill_entry(e, dev);
        struct cdi_entry *same = find_id(ret, n_entries, e->names[RANK_ID]);
        if (same && *same->node && *e->node && strcmp(same->node, e->node) != 0)
            return err_set(
                err, EEXIST, "%s and %s would both be called %s/%s=%s but are behind %s and %s",
                same->bdf, e->bdf, CDI_VENDOR, class, e->names[RANK_ID], same->node, e->node);
        if (same && share_entry(same, e))
            continue;
        if (indexed)
            (void)snprintf(e->names[RANK_INDEX], CDI_NAME_SIZE, "%zu", n_entries);
        n_entries++;
    }
    cdi_names_settle(ret, n_entries);
    return (int)n_entries;
}

static void print_spec(struct cdi_spec *spec, const struct cdi_entry *entries, size_t n)
{
    FILE *out = open_memstream(&spec->text, &spec->len);
    if (!out)
        abort();
    (void)fprintf(out, "%s{\n  \"cdiVersion\": \"%s\",\n  \"kind\": \"%s/%s\",\n  \"devices\": [",
                  CDI_MARK, CDI_VERSION, CDI_VENDOR, spec->class);
    /* by rank, not by device: the advertised ids come first for whoever reads the file */
    for (unsigned rank = 0; rank < RANK_MAX; rank++) {
        for (size_t i = 0; i < n; i++) {
            if (!entries[i].names[rank][0] || !entries[i].node[0])
                continue;
            (void)fprintf(
                out,
                "%s\n    { \"name\": \"%s\",\n      \"containerEdits\": { \"deviceNodes\": [ "
                "{ \"path\": \"%s\", \"permissions\": \"rwm\" } ] } }",
                spec->n_entries > 0 ? "," : "", entries[i].names[rank], entries[i].node);
            spec->n_entries++;
        }
    }
    (void)fputs("\n  ]\n}\n", out);
    if (fclose(out) != 0)
        abort();
}

static void add_class(char (*classes)[CDI_NAME_SIZE], size_t *n, const char *class)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(classes[i], class) == 0)
            return;
    if (class[0])
        (void)snprintf(classes[(*n)++], CDI_NAME_SIZE, "%s", class);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

struct building {
    size_t n, n_classes;
    struct cdi_device *devices; /* sorted by BDF */
    char (*classes)[CDI_NAME_SIZE];
    int r; /* the first mistake */
    struct err *err;
};

static bool is_wrong(struct building *in, int r, const struct err *err)
{
    if (r < 0 && in->r == 0) {
        in->r = r;
        *in->err = *err;
    }
    return r < 0;
}

static void take_class(struct building *in, const struct cdi_device *dev, const char *class)
{
    struct err err = ERR_INIT;
    if (!is_wrong(in, check_class(dev, class, &err), &err))
        add_class(in->classes, &in->n_classes, class);
}

static void take_device(struct building *in, const struct cdi_device *device)
{
    struct err err = ERR_INIT;
    if (!cdi_name_is_device(device->bdf, strnlen(device->bdf, sizeof device->bdf))) {
        is_wrong(in, err_set(&err, EINVAL, "'%.15s' is not a PCI address", device->bdf), &err);
        return;
    }
    struct cdi_device *dev = &in->devices[in->n++];
    *dev = *device;
    if (is_wrong(in, check_id(dev, &err), &err)) {
        dev->id[0] = '\0';
        dev->withdrawn = true;
    }
    if (is_wrong(in, check_node(dev, &err), &err))
        dev->withdrawn = true;
    take_class(in, dev, dev->class);
    if (dev->indexed_class[0])
        take_class(in, dev, dev->indexed_class);
}

static void make_spec(struct building *in, const char *class, struct cdi_entry *entries,
                      struct cdi_specs *specs)
{
    struct cdi_spec *spec = &specs->specs[specs->n];
    struct err err = ERR_INIT;
    int r = class_entries(in->devices, in->n, class, entries, &err);
    if (is_wrong(in, r, &err))
        return;
    *spec = (struct cdi_spec){0};
    (void)snprintf(spec->class, sizeof spec->class, "%s", class);
    (void)snprintf(spec->file, sizeof spec->file, CDI_VENDOR "-%s.yaml", spec->class);
    print_spec(spec, entries, (size_t)r);
    if (spec->n_entries == 0) /* a file without devices is refused */
        free(spec->text);
    else
        specs->n++;
}

int cdi_build(const struct cdi_device *devices, size_t n, struct cdi_specs *ret, struct err *err)
{
    *ret = (struct cdi_specs){0};
    if (n > CDI_MAX_DEVICES)
        return err_set(err, E2BIG, "%zu devices to offer, at most %d are supported", n,
                       CDI_MAX_DEVICES);
    AUTO_FREE struct cdi_device *sorted = xcalloc(n + 1, sizeof *sorted);
    AUTO_FREE char(*classes)[CDI_NAME_SIZE] = xcalloc(2 * n + 1, sizeof *classes);
    AUTO_FREE struct cdi_entry *entries = xcalloc(n + 1, sizeof *entries);
    struct building in = {.devices = sorted, .classes = classes, .err = err};
    for (size_t i = 0; i < n; i++)
        take_device(&in, &devices[i]);
    qsort(sorted, in.n, sizeof *sorted, by_bdf);
    qsort(classes, in.n_classes, sizeof *classes, by_text);
    ret->specs = xcalloc(in.n_classes + 1, sizeof *ret->specs);
    for (size_t i = 0; i < in.n_classes; i++)
        make_spec(&in, classes[i], entries, ret);
    return in.r;
}

const struct cdi_spec *cdi_specs_find(const struct cdi_specs *specs, const char *class)
{
    for (size_t i = 0; i < specs->n; i++)
        if (strcmp(specs->specs[i].class, class) == 0)
            return &specs->specs[i];
    return NULL;
}

void cdi_specs_free(struct cdi_specs *specs)
{
    for (size_t i = 0; i < specs->n; i++)
        free(specs->specs[i].text);
    free(specs->specs);
    *specs = (struct cdi_specs){0};
}
