#include "node-agent/kube/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/auto.h"

/* A request stays below this, a stream's unread part as well: it is taken out after every round of curl. */
#define CONNECT_TIMEOUT_MS 10000
#define RETRY_AFTER_MAX_MS 600000
#define MAX_CONNECTIONS 6L

struct http {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
    struct http_call *calls;
};

struct http_call {
    struct http *http;
    struct http_call *next;
    CURL *easy;
    struct curl_slist *headers;
    struct http_request request; /* only scalars and callbacks are used after the start */
    char error[CURL_ERROR_SIZE];
    char *body;
    size_t len, room;
    int retry_after_ms;
    char warning[200];
    bool header_done; /* of a 200 answer */
    bool opened;      /* on_open was called */
    bool too_large;
    bool finished;
    CURLcode result;
    struct loop_timer *stall_timer;
    int64_t last_data_ms;
};

/* --- pieces that come from curl --- */

static bool is_open_stream(struct http_call *call)
{
    long status = 0;
    (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return call->request.stream && status == 200;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    size_t len = size * n;
    call->last_data_ms = loop_now_ms(call->http->loop);
    if (len > HTTP_BODY_MAX - call->len) {
        call->too_large = true;
        return 0;
    }
    if (call->len + len + 1 > call->room) {
        call->room = (call->len + len + 1) * 2;
        call->body = xrealloc(call->body, call->room, 1);
    }
    memcpy(call->body + call->len, data, len);
    call->len += len;
    call->body[call->len] = 0;
    return len;
}

int http_retry_after(const char *value, long long now_s)
{
    while (*value == ' ')
        value++;
    size_t digits = strspn(value, "0123456789");
    long long seconds;
    if (digits > 0 && value[digits + strspn(value + digits, " \r\n")] == 0) {
        seconds = digits > 9 ? RETRY_AFTER_MAX_MS : strtoll(value, NULL, 10);
    } else {
        time_t at = curl_getdate(value, NULL);
        if (at < 0)
            return -1;
        seconds = (long long)at - now_s;
    }
    if (seconds < 0)
        return 0;
    return seconds >= RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (int)seconds * 1000;
}

static void take_text(const char *from, size_t len, char *ret, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < room; i++)
        if (from[i] >= ' ' && from[i] < 0x7f)
            ret[n++] = from[i];
    ret[n] = 0;
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    size_t len = size * n;
    char line[256];
    if (len > 12 && len < sizeof line && strncasecmp(data, "Retry-After:", 12) == 0) {
        take_text(data + 12, len - 12, line, sizeof line);
        call->retry_after_ms = http_retry_after(line, (long long)time(NULL));
    } else if (len > 8 && strncasecmp(data, "Warning:", 8) == 0) {
        take_text(data + 8, len - 8, call->warning, sizeof call->warning);
    } else if (len <= 2 && is_open_stream(call)) {
        call->header_done = true;
        call->last_data_ms = loop_now_ms(call->http->loop);
    }
    return len;
}

/* Times of a dead link: first probe after 20 s of silence, given up after 3 more at 5 s; unacknowledged data 20 s. */
static int set_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    static const struct {
        int level, name, value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 20},
                   {IPPROTO_TCP, TCP_KEEPINTVL, 5},
                   {IPPROTO_TCP, TCP_KEEPCNT, 3},
                   {IPPROTO_TCP, TCP_USER_TIMEOUT, 20000}};
    (void)arg;
    (void)purpose;
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
    return CURL_SOCKOPT_OK;
}

/* --- out of curl, to the caller --- */

static void unlink_call(struct http_call *call)
{
    for (struct http_call **p = &call->http->calls; *p; p = &(*p)->next)
        if (*p == call) {
            *p = call->next;
            return;
        }
}

static void free_call(struct http_call *call)
{
    unlink_call(call);
    if (call->easy) {
        (void)curl_multi_remove_handle(call->http->multi, call->easy);
        curl_easy_cleanup(call->easy);
    }
    loop_cancel(call->stall_timer);
    curl_slist_free_all(call->headers);
    free(call->body);
    free(call);
}

void http_cancel(struct http_call *call)
{
    if (call)
        free_call(call);
}

static void explain(struct http_call *call, struct err *err)
{
    const char *text = call->error[0] ? call->error : curl_easy_strerror(call->result);
    const char *server = NULL;
    (void)curl_easy_getinfo(call->easy, CURLINFO_EFFECTIVE_URL, &server);
    int len = server ? (int)strcspn(server, "?") : 0;
    if (call->too_large)
        (void)err_set(err, EFBIG, "the answer is larger than %u bytes", HTTP_BODY_MAX);
    else if (call->result == CURLE_OPERATION_TIMEDOUT)
        (void)err_set(err, ETIMEDOUT, "no answer in time from %.*s: %s", len, server ? server : "",
                      text);
    else if (call->result == CURLE_WEIRD_SERVER_REPLY || call->result == CURLE_UNSUPPORTED_PROTOCOL)
        (void)err_set(err, EBADMSG, "the answer is not HTTP: %s", text);
    else if (call->result == CURLE_PARTIAL_FILE || call->result == CURLE_RECV_ERROR)
        (void)err_set(err, ENETUNREACH, "the connection was cut: %s", text);
    else
        (void)err_set(err, ENETUNREACH, "no connection to %.*s: %s", len, server ? server : "",
                      text);
}

static void finish(struct http_call *call, const struct err *err)
{
    struct http_answer answer = {.body = call->body ? call->body : "",
                                 .len = call->len,
                                 .retry_after_ms = call->retry_after_ms,
                                 .warning = call->warning};
    long status = 0;
    if (err)
        answer.err = *err;
    else if (call->result != CURLE_OK)
        explain(call, &answer.err);
    if (!answer.err.code) {
        (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        answer.status = (int)status;
    }
    /* out of the list first: the callback may start and cancel others, not this one */
    unlink_call(call);
    call->request.on_done(call->request.arg, &answer);
    free_call(call);
}

/* Data of a stream, then its end. Return: whether something was done (the list may have changed). */
static bool deliver_one(struct http_call *call)
{
    if (call->header_done && !call->opened) {
        call->opened = true;
        if (call->request.on_open)
            call->request.on_open(call->request.arg);
        return true;
    }
    if (call->opened && call->len) {
        struct err err = ERR_INIT;
        size_t len = call->len;
        AUTO_FREE char *data = TAKE(call->body);
        call->len = call->room = 0;
        struct http *http = call->http;
        int r = call->request.on_data(call->request.arg, data, len, &err);
        if (r < 0) {
            for (struct http_call *c = http->calls; c; c = c->next)
                if (c == call) {
                    finish(call, &err);
                    break;
                }
        }
        return true;
    }
    if (call->finished) {
        finish(call, NULL);
        return true;
    }
    return false;
}

static void deliver(struct http *http)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(http->multi, &left))) {
        struct http_call *call = NULL;
        if (msg->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        call->result = msg->data.result;
        call->finished = true;
    }
    struct http_call *call = http->calls;
    while (call)
        call = deliver_one(call) ? http->calls : call->next;
}

static void drive(struct http *http, curl_socket_t fd, int mask)
{
    int running;
    (void)curl_multi_socket_action(http->multi, fd, mask, &running);
    deliver(http);
}

/* --- curl on the loop --- */

static void on_socket(void *arg, int fd, uint32_t events)
{
    int mask = (events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
               (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    drive(arg, fd, mask);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *source)
{
    struct http *http = arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        loop_remove_fd(source);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);
    if (source)
        loop_change_fd(source, events);
    else
        (void)curl_multi_assign(http->multi, fd,
                                loop_add_fd(http->loop, fd, events, on_socket, http));
    return 0;
}

static void on_timer(void *arg)
{
    struct http *http = arg;
    http->timer = NULL;
    drive(http, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *http = arg;
    (void)multi;
    loop_cancel(http->timer);
    http->timer = timeout_ms < 0 ? NULL : loop_add_timer(http->loop, timeout_ms, on_timer, http);
    return 0;
}

static void on_stall(void *arg)
{
    struct http_call *call = arg;
    int64_t quiet = loop_now_ms(call->http->loop) - call->last_data_ms;
    call->stall_timer = NULL;
    if (quiet < call->request.stall_ms) {
        call->stall_timer =
            loop_add_timer(call->http->loop, call->request.stall_ms - quiet, on_stall, call);
        return;
    }
    struct err err = ERR_INIT;
    (void)err_set(&err, ETIMEDOUT, "the stream was silent for %lld ms", (long long)quiet);
    finish(call, &err);
}

/* With CURLOPT_NOSIGNAL curl leaves SIGPIPE alone, and OpenSSL writes with write(2): a connection cut by the server would
 * end the process. A handler of the program's own stays. */
static void ignore_sigpipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &action, NULL);
    }
}

static int global_init(struct err *err)
{
    static bool done; /* curl counts; never undone, other users may remain */
    ignore_sigpipe();
    if (!done && curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return err_set(err, ENOMEM, "cannot start libcurl");
    done = true;
    return 0;
}

struct http *http_new(struct loop *loop, struct err *err)
{
    if (global_init(err) < 0)
        return NULL;
    struct http *http = xcalloc(1, sizeof *http);
    http->loop = loop;
    http->multi = curl_multi_init();
    if (!http->multi)
        abort(); /* out of memory */
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    (void)curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    (void)curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    (void)curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, MAX_CONNECTIONS);
    (void)curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 3L);
    return http;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (http->calls)
        free_call(http->calls);
    (void)curl_multi_cleanup(http->multi);
    loop_cancel(http->timer);
    free(http);
}

/* --- a request --- */

static void add_header(struct http_call *call, const char *name, const char *value)
{
    AUTO_FREE char *line = value ? xasprintf("%s: %s", name, value) : xasprintf("%s:", name);
    struct curl_slist *list = curl_slist_append(call->headers, line);
    if (!list)
        abort();
    call->headers = list;
    explicit_bzero(line, strlen(line)); /* it may be the token */
}

static void set_blob(CURL *easy, CURLoption option, const char *text)
{
    struct curl_blob blob = {
        .data = (void *)(uintptr_t)text, .len = strlen(text), .flags = CURL_BLOB_COPY};
    (void)curl_easy_setopt(easy, option, &blob);
}

static void set_tls(CURL *easy, const struct creds *c)
{
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, c->insecure ? 0L : 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, c->insecure ? 0L : 2L);
    (void)curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT,
                           0L);   /* default: 24 h, blind to rotation */
    if (c->ca_file || c->ca_data) /* else Debian's built-in directory would be trusted as well */
        (void)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (c->ca_file)
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
    if (c->ca_data) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
        set_blob(easy, CURLOPT_CAINFO_BLOB, c->ca_data);
    }
    if (c->cert_file)
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, c->cert_file);
    if (c->cert_data)
        set_blob(easy, CURLOPT_SSLCERT_BLOB, c->cert_data);
    if (c->key_file)
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, c->key_file);
    if (c->key_data)
        set_blob(easy, CURLOPT_SSLKEY_BLOB, c->key_data);
}

static void set_transport(struct http_call *call)
{
    CURL *easy = call->easy;
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http"); /* http: checked by creds */
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    (void)curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, set_socket);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
}

static void set_request(struct http_call *call, const struct http_request *rq)
{
    CURL *easy = call->easy;
    AUTO_FREE char *url = xasprintf("%s%s", rq->creds->server, rq->path);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)rq->timeout_ms);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, rq->user_agent);
    if (rq->body) {
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(rq->body));
        (void)curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, rq->body);
    }
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, rq->method);
    add_header(call, "Accept", rq->accept);
    if (rq->body)
        add_header(call, "Content-Type", rq->content_type);
    add_header(call, "Expect", NULL);
    /* never in clear text, not even on loopback: as kubectl */
    if (rq->creds->token && strncmp(rq->creds->server, "https://", 8) == 0) {
        AUTO_FREE char *bearer = xasprintf("Bearer %s", rq->creds->token);
        add_header(call, "Authorization", bearer);
        explicit_bzero(bearer, strlen(bearer));
    }
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
}

struct http_call *http_start(struct http *http, const struct http_request *rq)
{
    struct http_call *call = xcalloc(1, sizeof *call);
    call->http = http;
    call->request = *rq;
    call->retry_after_ms = -1;
    call->next = http->calls;
    http->calls = call;
    call->last_data_ms = loop_now_ms(http->loop);
    call->easy = curl_easy_init();
    if (!call->easy)
        abort();
    set_transport(call);
    set_tls(call->easy, rq->creds);
    set_request(call, rq);
    if (rq->stream && rq->stall_ms)
        call->stall_timer = loop_add_timer(http->loop, rq->stall_ms, on_stall, call);
    if (curl_multi_add_handle(http->multi, call->easy) != CURLM_OK)
        abort(); /* our own mistake: inside a curl callback, or added twice */
    return call;
}
