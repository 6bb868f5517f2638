#include "attestation/prog/http.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/auto.h"
#include "version.h"

/* REF-A 1.5: five attempts, 100 ms base, full jitter */
#define ATTEMPTS 5
#define BACKOFF_MS 100
#define BACKOFF_MAX_MS 5000
#define CONNECT_MS 5000
#define STALL_SECONDS 10 /* without a byte */

struct curl_api {
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *);
    CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
    CURLcode (*easy_perform)(CURL *);
    CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
    void (*easy_reset)(CURL *);
    const char *(*easy_strerror)(CURLcode);
    struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
    void (*slist_free_all)(struct curl_slist *);
};

struct http {
    void *lib;
    struct curl_api api;
    CURL *easy;
    const char *ca_file;
    int64_t deadline_ms;
    unsigned count;
};

struct body {
    struct att_bytes bytes;
    size_t room, max;
    bool too_large;
};

static int64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct http *http_new(const char *ca_file, int64_t timeout_ms)
{
    struct http *http = xcalloc(1, sizeof *http);
    http->ca_file = ca_file;
    http->deadline_ms = now_ms() + timeout_ms;
    return http;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    if (http->easy)
        http->api.easy_cleanup(http->easy);
    free(http); /* the library stays loaded: its exit handlers may run */
}

unsigned http_count(const struct http *http)
{
    return http->count;
}

static int load(struct http *http, struct err *err)
{
    if (http->easy)
        return 0;
    http->lib = dlopen("libcurl.so.4", RTLD_LAZY | RTLD_LOCAL);
    if (!http->lib)
        return err_set(err, ENOSYS, "libcurl is needed to fetch anything: %s", dlerror());
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {{"curl_easy_init", &http->api.easy_init},
                   {"curl_easy_cleanup", &http->api.easy_cleanup},
                   {"curl_easy_setopt", &http->api.easy_setopt},
                   {"curl_easy_perform", &http->api.easy_perform},
                   {"curl_easy_getinfo", &http->api.easy_getinfo},
                   {"curl_easy_reset", &http->api.easy_reset},
                   {"curl_easy_strerror", &http->api.easy_strerror},
                   {"curl_slist_append", &http->api.slist_append},
                   {"curl_slist_free_all", &http->api.slist_free_all}};
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        void *symbol = dlsym(http->lib, symbols[i].name);
        if (!symbol)
            return err_set(err, ENOSYS, "libcurl lacks %s", symbols[i].name);
        memcpy(symbols[i].slot, &symbol, sizeof symbol);
    }
    http->easy = http->api.easy_init();
    return http->easy ? 0 : err_set(err, ENOSYS, "libcurl can't be initialised");
}

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    struct body *body = arg;
    size_t len = size * n;
    if (len > body->max - body->bytes.len) {
        body->too_large = true;
        return 0;
    }
    if (body->bytes.len + len + 1 > body->room) {
        body->room = 2 * (body->bytes.len + len) + 4096;
        body->bytes.data = xrealloc(body->bytes.data, body->room, 1);
    }
    memcpy(body->bytes.data + body->bytes.len, p, len);
    body->bytes.len += len;
    return len;
}

/* A key must not travel in the clear, except to this machine itself. */
static bool may_send_key(const char *url)
{
    static const char *const own[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    if (strncasecmp(url, "https://", 8) == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t n = strlen(own[i]);
        if (strncasecmp(url, own[i], n) == 0 && (url[n] == ':' || url[n] == '/' || !url[n]))
            return true;
    }
    return false;
}

static struct curl_slist *headers(const struct http *http, const struct http_request *request)
{
    const struct curl_api *api = &http->api;
    AUTO_FREE char *accept = xasprintf("Accept: %s", request->accept);
    struct curl_slist *list = api->slist_append(NULL, accept);
    if (request->content_type) {
        AUTO_FREE char *type = xasprintf("Content-Type: %s", request->content_type);
        list = api->slist_append(list, type);
        list = api->slist_append(list, "Expect:");
    }
    if (request->key && may_send_key(request->url)) {
        AUTO_FREE char *key = xasprintf("Authorization: Bearer %s", request->key);
        list = api->slist_append(list, key);
    }
    return list;
}

static void set_options(struct http *http, const struct http_request *request, struct body *body,
                        struct curl_slist *list, char *message)
{
    CURL *c = http->easy;
    int64_t left = http->deadline_ms - now_ms();
    long timeout = left > 1 ? (long)left : 1;
    http->api.easy_reset(c);
#define SET(option, value) (void)http->api.easy_setopt(c, CURLOPT_##option, value)
    SET(URL, request->url);
    SET(PROTOCOLS_STR, "http,https");
    SET(FOLLOWLOCATION, 0L);
    SET(NOSIGNAL, 1L);
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* REF-C 3: HTTP/2 of 7.88 has two defects */
    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(TIMEOUT_MS, timeout);
    SET(CONNECTTIMEOUT_MS, timeout < CONNECT_MS ? timeout : (long)CONNECT_MS);
    SET(LOW_SPEED_LIMIT, 1L);
    SET(LOW_SPEED_TIME, (long)STALL_SECONDS);
    SET(MAXFILESIZE_LARGE, (curl_off_t)request->max);
    SET(BUFFERSIZE, 16384L);
    SET(TCP_NODELAY, 1L);
    SET(HTTPHEADER, list);
    SET(USERAGENT, "ccnode-attest/" CCN_VERSION);
    SET(ERRORBUFFER, message);
    SET(WRITEFUNCTION, take);
    SET(WRITEDATA, body);
    if (http->ca_file) {
        SET(CAINFO, http->ca_file);
        SET(CAPATH, NULL); /* Debian's built-in directory would stay trusted beside it */
    }
    if (request->content_type) {
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)request->len);
        SET(POSTFIELDS, request->body);
    }
#undef SET
}

static bool type_matches(const char *type, const char *want)
{
    size_t n = strlen(want);
    return type && strncasecmp(type, want, n) == 0 &&
           (type[n] == 0 || type[n] == ';' || type[n] == ' ');
}

/* what an answer with headers means */
static int judge_answer(struct http *http, const struct http_request *request, struct err *err)
{
    long status = 0;
    char *type = NULL;
    (void)http->api.easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)http->api.easy_getinfo(http->easy, CURLINFO_CONTENT_TYPE, &type);
    if (status == 404)
        return err_set(err, ENOENT, "%s: 404 not found", request->url);
    if (status == 401 || status == 403)
        return err_set(err, EACCES, "%s: %ld, the service wants a (better) key", request->url,
                       status);
    if (status >= 300 && status < 400)
        return err_set(err, EPROTO, "%s: redirect (%ld) refused", request->url, status);
    if (status == 408 || status == 429 || status >= 500)
        return err_set(err, EAGAIN, "%s: status %ld", request->url, status);
    if (status != 200)
        return err_set(err, EPROTO, "%s: status %ld", request->url, status);
    if (!type_matches(type, request->accept))
        return err_set(err, EPROTO, "%s: content type %.60s, %s is expected", request->url,
                       type ? type : "(none)", request->accept);
    return 0;
}

static int code_of(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return ETIMEDOUT;
    case CURLE_FILESIZE_EXCEEDED:
        return EFBIG;
    case CURLE_COULDNT_CONNECT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_COULDNT_RESOLVE_HOST:
        return EHOSTUNREACH;
    default:
        return EPROTO;
    }
}

static int attempt(struct http *http, const struct http_request *request, struct att_bytes *ret,
                   struct err *err)
{
    char message[CURL_ERROR_SIZE] = "";
    struct body body = {.max = request->max};
    struct curl_slist *list = headers(http, request);
    set_options(http, request, &body, list, message);
    http->count++;
    CURLcode code = http->api.easy_perform(http->easy);
    int r;
    if (body.too_large || code == CURLE_FILESIZE_EXCEEDED)
        r = err_set(err, EFBIG, "%s: answer of more than %zu bytes", request->url, request->max);
    else if (code != CURLE_OK)
        r = err_set(err, code_of(code), "%s: %s", request->url,
                    message[0] ? message : http->api.easy_strerror(code));
    else
        r = judge_answer(http, request, err);
    http->api.slist_free_all(list);
    if (r < 0) {
        att_bytes_done(&body.bytes);
        return r;
    }
    *ret = body.bytes;
    return 0;
}

static void wait_before(unsigned attempt_no, int64_t left)
{
    uint32_t random = 0;
    int64_t limit = BACKOFF_MS << attempt_no;
    if (limit > BACKOFF_MAX_MS)
        limit = BACKOFF_MAX_MS;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = 0;
    int64_t ms = 1 + random % limit;
    if (ms > left)
        ms = left;
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&ts, NULL);
}

int http_send(struct http *http, const struct http_request *request, struct att_bytes *ret,
              struct err *err)
{
    int r = load(http, err);
    for (unsigned i = 0; r == 0; i++) {
        int64_t left = http->deadline_ms - now_ms();
        if (left <= 0)
            return err_set(err, ETIMEDOUT, "%s: no time left (--timeout)", request->url);
        r = attempt(http, request, ret, err);
        bool may_pass = r == -EAGAIN || r == -EHOSTUNREACH;
        left = http->deadline_ms - now_ms();
        if (!may_pass || i + 1 == ATTEMPTS || left <= 0)
            return r;
        wait_before(i, left);
        r = 0;
    }
    return r;
}
