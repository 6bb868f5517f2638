#include "attestation/prog/services.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/fs.h"

int services_open(struct services *ret, const struct opts *opts, struct err *err)
{
    *ret = (struct services){.opts = opts, .rim_dir = -1};
    bool dir = opts->rim_store ? strcmp(opts->rim_store, "dir") == 0 : opts->rim_dir != NULL;
    if (dir) {
        const char *path = opts->rim_dir ? opts->rim_dir : ".";
        ret->rim_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (ret->rim_dir < 0)
            return err_errno(err, "RIM directory %s", path);
    }
    ret->http = http_new(opts->ca_file, opts->timeout_ms);
    return 0;
}

void services_close(struct services *services)
{
    if (services->rim_dir >= 0)
        (void)close(services->rim_dir);
    http_free(services->http);
}

static int rim_from_dir(const struct services *s, const char *id, struct att_bytes *ret,
                        struct err *err)
{
    char name[160];
    char *data = NULL;
    (void)snprintf(name, sizeof name, "%s.xml", id);
    AUTO_CLOSE int fd = openat(s->rim_dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ENOENT, "%s is not in the RIM directory", name);
    if (fd < 0)
        return err_errno(err, "%s", name);
    int r = fs_read_fd(fd, name, ATT_RIM_MAX, &data, &ret->len, err);
    if (r < 0)
        return r == -EFBIG ? -(err->code = EBADMSG) : r;
    ret->data = (uint8_t *)data;
    return 0;
}

/* The base may be the bare host (nvattest) or end in /v1/rim/ (the Python tools). */
static char *rim_url(const char *base, const char *id)
{
    size_t n = strlen(base);
    while (n && base[n - 1] == '/')
        n--;
    bool full = n >= 7 && strncmp(base + n - 7, "/v1/rim", 7) == 0;
    return xasprintf("%.*s%s/%s", (int)n, base, full ? "" : "/v1/rim", id);
}

static int rim_from_service(const struct services *s, const char *id, struct att_bytes *ret,
                            struct err *err)
{
    struct att_bytes reply = {0};
    AUTO_FREE char *url = rim_url(s->opts->rim_url ? s->opts->rim_url : RIM_URL_DEFAULT, id);
    struct http_request request = {.url = url,
                                   .accept = "application/json",
                                   .key = s->opts->service_key,
                                   .max = 2 * ATT_RIM_MAX};
    int r = http_send(s->http, &request, &reply, err);
    if (r == 0) {
        r = att_rim_reply_decode((const char *)reply.data, reply.len, id, ret, err);
        if (r < 0)
            r = err_wrap(err, r, "%s", url);
    }
    att_bytes_done(&reply);
    return r;
}

static int get_rim(void *arg, const char *id, struct att_bytes *ret, struct err *err)
{
    const struct services *s = arg;
    return s->rim_dir >= 0 ? rim_from_dir(s, id, ret, err) : rim_from_service(s, id, ret, err);
}

static int get_ocsp(void *arg, const uint8_t *request, size_t len, struct att_bytes *ret,
                    struct err *err)
{
    const struct services *s = arg;
    struct http_request http = {.url = s->opts->ocsp_url ? s->opts->ocsp_url : OCSP_URL_DEFAULT,
                                .accept = "application/ocsp-response",
                                .content_type = "application/ocsp-request",
                                .body = request,
                                .len = len,
                                .key = s->opts->service_key,
                                .max = ATT_OCSP_MAX};
    int r = http_send(s->http, &http, ret, err);
    /* 404 of a responder is a wrong address, not an answer about a certificate */
    return r == -ENOENT ? -(err->code = EPROTO) : r;
}

int services_random(void *arg, uint8_t *buf, size_t len, struct err *err)
{
    (void)arg;
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom(buf + done, len - done, 0);
        if (n < 0 && errno != EINTR)
            return err_errno(err, "getrandom");
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

void services_source(struct services *services, struct att_source *ret)
{
    *ret = (struct att_source){get_rim, get_ocsp, services_random, services};
}
