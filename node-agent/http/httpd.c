#include "node-agent/http/httpd.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "base/auto.h"
#include "node-agent/http/listen.h"

#define MAX_CONNECTIONS 32U
#define IDLE_S 10U
#define REQUEST_MEMORY (16U * 1024)

struct httpd {
    struct loop *loop;
    struct httpd_options options; /* callbacks only; texts are not kept */
    struct MHD_Daemon *daemon;
    struct loop_fd *source;
    struct loop_timer *timer;
    char *address;
    bool ending; /* nobody waits any more */
    size_t n_waiting;
    struct MHD_Connection *waiting[MAX_CONNECTIONS]; /* for metrics */
};

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
                              char *text, size_t len)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(text);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Content-Type", type);
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(r, "Allow", "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result answer_line(struct MHD_Connection *c, unsigned status, const char *line)
{
    char *text = xasprintf("%s\n", line);
    return answer(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

static enum MHD_Result answer_text(struct MHD_Connection *c, const char *type,
                                   char *(*make)(void *arg, size_t *ret_len), void *arg)
{
    size_t len = 0;
    char *text = make ? make(arg, &len) : NULL;
    return text ? answer(c, MHD_HTTP_OK, type, text, len)
                : answer_line(c, MHD_HTTP_NOT_FOUND, "not found");
}

static enum MHD_Result answer_state(struct MHD_Connection *c,
                                    bool (*ask)(void *arg, char **ret_text), void *arg)
{
    AUTO_FREE char *text = NULL;
    bool ok = ask ? ask(arg, &text) : true;
    return answer_line(c, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                       text ? text
                       : ok ? "ok"
                            : "not ready");
}

/* Return: whether it is suspended until httpd_go_on(). */
static bool is_put_off(struct httpd *h, struct MHD_Connection *c)
{
    const struct httpd_options *o = &h->options;
    if (!o->prepare_metrics || h->ending || h->n_waiting == MAX_CONNECTIONS ||
        o->prepare_metrics(o->arg))
        return false;
    MHD_suspend_connection(c);
    h->waiting[h->n_waiting++] = c;
    return true;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    static char seen, waited;
    struct httpd *h = arg;
    const struct httpd_options *o = &h->options;
    (void)version;
    (void)upload;
    if (!*state) { /* header only; the request may still have a body */
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_size) { /* read over */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_line(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD");
    if (strcmp(url, "/metrics") == 0 && *state != &waited && is_put_off(h, c)) {
        *state = &waited;
        return MHD_YES;
    }
    if (strcmp(url, "/metrics") == 0)
        return answer_text(c, "text/plain; version=0.0.4; charset=utf-8", o->metrics, o->arg);
    if (strcmp(url, "/debug/plan") == 0)
        return answer_text(c, "application/json", o->plan, o->arg);
    if (strcmp(url, "/healthz") == 0)
        return answer_state(c, o->healthy, o->arg);
    if (strcmp(url, "/readyz") == 0)
        return answer_state(c, o->ready, o->arg);
    return answer_line(c, MHD_HTTP_NOT_FOUND,
                       "not found; there are /metrics /healthz /readyz /debug/plan");
}

static void serve(struct httpd *h);

static void on_timer(void *arg)
{
    struct httpd *h = arg;
    h->timer = NULL;
    serve(h);
}

static void on_ready(void *arg, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    serve(arg);
}

static unsigned connections(const struct httpd *h)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info ? info->num_connections : 0;
}

/* No timer while nobody is connected: MHD has none then. At its limit MHD stops to listen, and it listens again only in the
 * round after the one in which connections ended (0.9.75): so one more round then, nobody else would wake it. */
static void serve(struct httpd *h)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    unsigned before;
    do {
        before = connections(h);
        (void)MHD_run(h->daemon);
    } while (connections(h) < before);
    loop_cancel(h->timer);
    h->timer = NULL;
    if (MHD_get_timeout(h->daemon, &timeout_ms) == MHD_YES)
        h->timer = loop_add_timer(h->loop, (int64_t)timeout_ms, on_timer, h);
}

void httpd_go_on(struct httpd *h)
{
    if (h->n_waiting == 0)
        return;
    for (size_t i = 0; i < h->n_waiting; i++)
        MHD_resume_connection(h->waiting[i]);
    h->n_waiting = 0;
    serve(h);
}

static void no_log(void *arg, const char *fmt, va_list ap)
{
    (void)arg;
    (void)fmt;
    (void)ap;
}

static int start(struct httpd *h, int fd, struct err *err)
{
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
        MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_MEMORY, MHD_OPTION_END);
    if (!h->daemon)
        return err_set(err, EIO, "libmicrohttpd does not start on %s", h->address);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return err_set(err, EIO, "libmicrohttpd has no epoll descriptor");
    h->source = loop_add_fd(h->loop, info->epoll_fd, EPOLLIN, on_ready, h);
    return 0;
}

struct httpd *httpd_new(struct loop *loop, const struct httpd_options *options, struct err *err)
{
    struct listen_address address;
    if (listen_parse(options->listen, &address, err) < 0)
        return NULL;
    AUTO_CLOSE int fd = listen_open(&address, options->listen, err);
    if (fd < 0)
        return NULL;
    struct httpd *h = xcalloc(1, sizeof *h);
    *h = (struct httpd){.loop = loop, .options = *options, .address = listen_text(fd)};
    h->options.listen = NULL;
    if (start(h, fd, err) < 0) {
        if (h->daemon)
            (void)TAKE_FD(fd); /* closed by the daemon */
        httpd_free(h);
        return NULL;
    }
    (void)TAKE_FD(fd);
    return h;
}

void httpd_free(struct httpd *h)
{
    if (!h)
        return;
    h->ending = true;
    if (h->daemon)
        httpd_go_on(h); /* a daemon does not end while connections wait */
    loop_remove_fd(h->source);
    loop_cancel(h->timer);
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    if (strncmp(h->address, "unix:", 5) == 0)
        (void)unlink(h->address + 5);
    free(h->address);
    free(h);
}

const char *httpd_address(const struct httpd *h)
{
    return h->address;
}
