#include "device-plugin/offer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/proto.h"

/* Name part of a qualified name: kubernetes/apimachinery pkg/util/validation (at most 63, alphanumeric at both ends). */
static bool is_name(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n > 63 || !isalnum((unsigned char)text[0]) ||
        !isalnum((unsigned char)text[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
            return false;
    return true;
}

/* DNS subdomain: lower case; kubelet puts "requests." in front, and the whole may have 253 characters. */
static bool is_domain(const char *text, size_t n)
{
    if (n == 0 || n > 253 - strlen("requests."))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool inner = i > 0 && i + 1 < n && text[i - 1] != '.' && text[i + 1] != '.';
        bool plain = islower((unsigned char)text[i]) || isdigit((unsigned char)text[i]);
        if (!plain && !(inner && (text[i] == '-' || (text[i] == '.' && text[i - 1] != '-'))))
            return false;
    }
    return true;
}

static int check_name(const char *name, struct err *err)
{
    const char *slash = strchr(name, '/');
    if (!slash || !is_domain(name, (size_t)(slash - name)) || !is_name(slash + 1) ||
        strstr(name, "kubernetes.io/") || strncmp(name, "requests.", 9) == 0)
        return err_set(err, EINVAL,
                       "\"%.300s\" is not a name for an extended resource: it must look like "
                       "nvidia.com/NAME, with at most 63 letters, digits, '-', '_' and '.' in NAME",
                       name);
    return 0;
}

static bool is_text(const char *text, size_t max)
{
    size_t n = strlen(text);
    return n > 0 && n <= max && text_utf8(text, n);
}

static int check_device(const char *resource, const struct dp_device *d, struct err *err)
{
    if (!d->id || !is_text(d->id, DP_MAX_ID))
        return err_set(err, EINVAL,
                       "%s: device id \"%.80s\" is empty, longer than %d bytes or not text",
                       resource, d->id ? d->id : "", DP_MAX_ID);
    if (!d->node || strncmp(d->node, "/dev/vfio/", 10) != 0 || !is_text(d->node, 200))
        return err_set(err, EINVAL, "%s: device %s has no VFIO node (\"%.80s\")", resource, d->id,
                       d->node ? d->node : "");
    const char *others[] = {d->reason, d->bdfs, d->cdi, d->partition, d->pcie_switch};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i] && others[i][0] && !is_text(others[i], 4096))
            return err_set(err, EINVAL, "%s: device %s has text that is too long or not UTF-8",
                           resource, d->id);
    return 0;
}

static char *copy(const char *text)
{
    return xstrdup(text ? text : "");
}

static void copy_device(struct dp_device *ret, const struct dp_device *d)
{
    *ret = (struct dp_device){
        .id = copy(d->id),
        .healthy = d->healthy,
        .reason = copy(d->reason),
        .numa_node = d->numa_node < 0 ? -1 : d->numa_node,
        .node = copy(d->node),
        .bdfs = copy(d->bdfs),
        .cdi = d->cdi && d->cdi[0] ? xstrdup(d->cdi) : NULL,
        .partition = copy(d->partition),
        .pcie_switch = copy(d->pcie_switch),
    };
}

static void free_text(const char *text)
{
    char *p;
    memcpy(&p, &text, sizeof p);
    free(p);
}

static void free_device(struct dp_device *d)
{
    free_text(d->id);
    free_text(d->reason);
    free_text(d->node);
    free_text(d->bdfs);
    free_text(d->cdi);
    free_text(d->partition);
    free_text(d->pcie_switch);
}

void dp_offer_free(struct offer *offer)
{
    if (!offer)
        return;
    for (size_t i = 0; i < offer->n; i++)
        free_device(&offer->devices[i]);
    free(offer->devices);
    free(offer->only_together);
    free(offer->name);
    free(offer);
}

static int by_address(const void *a, const void *b)
{
    const struct dp_device *x = a, *y = b;
    int r = strcmp(x->bdfs, y->bdfs);
    return r ? r : strcmp(x->id, y->id);
}

static int check_unique(const struct dp_resource *resource, struct err *err)
{
    for (size_t i = 0; i < resource->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(resource->devices[i].id, resource->devices[k].id) == 0)
                return err_set(err, EINVAL, "%s: device id %s is there twice", resource->name,
                               resource->devices[i].id);
    return 0;
}

struct offer *dp_offer_new(const struct dp_resource *resource, struct err *err)
{
    if (check_name(resource->name ? resource->name : "", err) < 0)
        return NULL;
    if (resource->n > DP_MAX_DEVICES) {
        (void)err_set(err, E2BIG, "%s: %zu devices, at most %d are possible", resource->name,
                      resource->n, DP_MAX_DEVICES);
        return NULL;
    }
    if (resource->only_together && !is_text(resource->only_together, DP_MAX_REASON)) {
        (void)err_set(err, EINVAL, "%s: its reason is too long or not UTF-8", resource->name);
        return NULL;
    }
    for (size_t i = 0; i < resource->n; i++)
        if (check_device(resource->name, &resource->devices[i], err) < 0)
            return NULL;
    if (check_unique(resource, err) < 0)
        return NULL;
    struct offer *offer = xcalloc(1, sizeof *offer);
    offer->name = xstrdup(resource->name);
    offer->only_together = resource->only_together ? xstrdup(resource->only_together) : NULL;
    offer->n = resource->n;
    offer->devices = xcalloc(resource->n ? resource->n : 1, sizeof *offer->devices);
    for (size_t i = 0; i < resource->n; i++)
        copy_device(&offer->devices[i], &resource->devices[i]);
    qsort(offer->devices, offer->n, sizeof *offer->devices, by_address);
    return offer;
}

int dp_offer_find(const struct offer *offer, const void *id, size_t len)
{
    for (size_t i = 0; i < offer->n; i++) {
        const char *known = offer->devices[i].id;
        if (strlen(known) == len && memcmp(known, id, len) == 0)
            return (int)i;
    }
    return -1;
}

const char *offer_short_name(const struct offer *offer)
{
    return strchr(offer->name, '/') + 1;
}
