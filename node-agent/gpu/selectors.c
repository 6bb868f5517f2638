#include "node-agent/gpu/selectors.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct matching {
    const struct nv_device *devices;
    size_t n;
    bool *ret;
    struct err *err;
    const char *one; /* the selector at hand, for messages */
};

static int no_selector(const struct matching *in)
{
    return err_set(in->err, EINVAL,
                   "'%.60s' is not a device selector; write a BDF or a part of it, vendor:device "
                   "(10de:2331), gpus, nvswitches, gpus[0] or gpus[0:4]",
                   in->one);
}

/* A number of @text up to @stop. Return: what comes after it, or NULL. */
static const char *parse_index(const char *text, long *ret)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return NULL;
    *ret = strtol(text, &end, 10);
    return *ret < INT_MAX ? end : NULL;
}

/* "[0]", "[0:4]", "[2:]" or nothing. Return: false when it is something else. */
static bool parse_slice(const char *text, long *from, long *to)
{
    *from = 0;
    *to = LONG_MAX;
    if (!*text)
        return true;
    if (*text++ != '[')
        return false;
    const char *p = *text == ':' ? text : parse_index(text, from);
    if (!p)
        return false;
    if (*p == ']') {
        *to = *from + 1;
        return p[1] == '\0';
    }
    if (*p++ != ':')
        return false;
    if (*p != ']') {
        p = parse_index(p, to);
        if (!p)
            return false;
    }
    return p[0] == ']' && p[1] == '\0' && *from < *to;
}

static int match_kind(const struct matching *in, enum nv_kind kind, const char *slice)
{
    long from, to, place = 0;
    int count = 0;
    if (!parse_slice(slice, &from, &to))
        return no_selector(in);
    for (size_t i = 0; i < in->n; i++) {
        if (in->devices[i].kind != kind)
            continue;
        if (place >= from && place < to) {
            in->ret[i] = true;
            count++;
        }
        place++;
    }
    if (count == 0)
        return err_set(in->err, ENODEV, "'%.60s' names none of the %ld %s of this node", in->one,
                       place, kind == NV_KIND_GPU ? "GPUs" : "NVSwitches");
    return count;
}

/* "10de:2331": four and four digits */
static bool parse_ids(const char *text, unsigned long *vendor, unsigned long *device)
{
    if (strlen(text) != 9 || text[4] != ':')
        return false;
    for (size_t i = 0; i < 9; i++) {
        if (i != 4 && !isxdigit((unsigned char)text[i]))
            return false;
    }
    *vendor = strtoul(text, NULL, 16);
    *device = strtoul(text + 5, NULL, 16);
    return true;
}

static int match_ids(const struct matching *in, unsigned long vendor, unsigned long device)
{
    int count = 0;
    for (size_t i = 0; i < in->n; i++) {
        if (in->devices[i].vendor_id == vendor && in->devices[i].device_id == device) {
            in->ret[i] = true;
            count++;
        }
    }
    return count > 0 ? count
                     : err_set(in->err, ENODEV, "no device of this node is a %.60s", in->one);
}

/* "18:00.0", "0000:18", …: what an address could have in it. Domains have up to eight digits. */
static bool is_part_of_bdf(const char *text)
{
    static const char shape[] = "xxxxxxxx:xx:xx.x";
    for (const char *s = shape; *s; s++) {
        size_t i = 0;
        while (text[i] && s[i] &&
               (s[i] == 'x' ? isxdigit((unsigned char)text[i]) : text[i] == s[i]))
            i++;
        if (!text[i])
            return true;
    }
    return false;
}

static int match_bdf(const struct matching *in)
{
    size_t first = in->n;
    if (!is_part_of_bdf(in->one))
        return no_selector(in);
    for (size_t i = 0; i < in->n; i++) {
        if (!strcasestr(in->devices[i].bdf, in->one))
            continue;
        if (first < in->n)
            return err_set(in->err, ENOTUNIQ, "'%.60s' is part of %s and of %s; write more of it",
                           in->one, in->devices[first].bdf, in->devices[i].bdf);
        first = i;
    }
    if (first == in->n)
        return err_set(in->err, ENODEV, "no NVIDIA device of this node has an address with '%.60s'",
                       in->one);
    in->ret[first] = true;
    return 1;
}

static int match_one(const struct matching *in)
{
    unsigned long vendor, device;
    if (!*in->one)
        return no_selector(in);
    if (strncasecmp(in->one, "gpus", 4) == 0)
        return match_kind(in, NV_KIND_GPU, in->one + 4);
    if (strncasecmp(in->one, "nvswitches", 10) == 0)
        return match_kind(in, NV_KIND_NVSWITCH, in->one + 10);
    if (parse_ids(in->one, &vendor, &device))
        return match_ids(in, vendor, device);
    return match_bdf(in);
}

bool selectors_is_one(const char *text)
{
    struct err ignored = ERR_INIT;
    const struct matching on_no_node = {.err = &ignored, .one = text};
    return strlen(text) < SELECTOR_SIZE && match_one(&on_no_node) != -EINVAL;
}

int selectors_match(const char *text, const struct nv_device *devices, size_t n, bool *ret,
                    struct err *err)
{
    bool named[NV_MAX_DEVICES] = {0};
    char one[SELECTOR_SIZE];
    int count = 0;
    struct matching in = {
        .devices = devices,
        .n = n < NV_MAX_DEVICES ? n : NV_MAX_DEVICES,
        .ret = named,
        .err = err,
        .one = one,
    };
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        if (len >= sizeof one)
            return err_set(err, EINVAL, "'%.60s…' is too long for a device selector", p);
        memcpy(one, p, len);
        one[len] = '\0';
        int r = match_one(&in);
        if (r < 0)
            return r;
        p += len;
        if (!*p)
            break;
    }
    for (size_t i = 0; i < in.n; i++) {
        if (named[i])
            count++;
        ret[i] = ret[i] || named[i];
    }
    return count;
}
