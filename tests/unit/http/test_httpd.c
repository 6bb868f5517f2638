/* The server and its clients on one loop: real sockets, no threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "node-agent/http/httpd.h"
#include "node-agent/http/listen.h"

static bool is_ready;

static char *make_metrics(void *arg, size_t *ret_len)
{
    (void)arg;
    *ret_len = 2;
    return xstrdup("m\n");
}

static char *make_plan(void *arg, size_t *ret_len)
{
    (void)arg;
    *ret_len = 3U << 20;
    char *text = xmalloc(*ret_len);
    memset(text, 'p', *ret_len);
    return text;
}

static bool ready(void *arg, char **ret_text)
{
    (void)arg;
    *ret_text = xstrdup(is_ready ? "all verified" : "2 devices are changing");
    return is_ready;
}

static struct httpd *start(struct loop *loop, const char *listen)
{
    struct err err = ERR_INIT;
    struct httpd_options o = {
        .listen = listen, .metrics = make_metrics, .plan = make_plan, .ready = ready};
    struct httpd *h = httpd_new(loop, &o, &err);
    if (!h)
        fail_msg("%s", err.msg);
    return h;
}

static int dial(const struct httpd *h)
{
    struct listen_address a;
    struct err err = ERR_INIT;
    assert_int_equal(listen_parse(httpd_address(h), &a, &err), 0);
    int fd = socket(a.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &a.u.any, a.len), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Everything until the server closes; the request asks for that. */
static char *exchange(struct loop *loop, const struct httpd *h, const char *request,
                      size_t *ret_len)
{
    size_t room = 8U << 20, len = 0;
    AUTO_CLOSE int fd = dial(h);
    char *text = xmalloc(room);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    for (int rounds = 0; rounds < 100000; rounds++) {
        loop_run_once(loop, 0);
        ssize_t n = recv(fd, text + len, room - len - 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            text[len] = 0;
            if (ret_len)
                *ret_len = len;
            return text;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    fail_msg("no end of the answer to %s", request);
    return text;
}

static void expect(struct loop *loop, const struct httpd *h, const char *line, const char *status,
                   const char *body)
{
    AUTO_FREE char *request =
        xasprintf("%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", line);
    AUTO_FREE char *text = exchange(loop, h, request, NULL);
    AUTO_FREE char *start_line = xasprintf("HTTP/1.1 %s", status);
    const char *blank = strstr(text, "\r\n\r\n");
    assert_non_null(blank);
    assert_memory_equal(text, start_line, strlen(start_line));
    assert_string_equal(blank + 4, body);
}

static void test_pages(void **state)
{
    (void)state;
    struct loop *loop = loop_new(NULL, NULL);
    struct httpd *h = start(loop, "127.0.0.1:0");
    expect(loop, h, "GET /metrics", "200", "m\n");
    expect(loop, h, "HEAD /metrics", "200", "");
    expect(loop, h, "GET /healthz", "200", "ok\n");
    is_ready = false;
    expect(loop, h, "GET /readyz", "503", "2 devices are changing\n");
    is_ready = true;
    expect(loop, h, "GET /readyz?verbose=1", "200", "all verified\n");
    expect(loop, h, "GET /", "404", "not found; there are /metrics /healthz /readyz /debug/plan\n");
    expect(loop, h, "GET /../metrics", "404",
           "not found; there are /metrics /healthz /readyz /debug/plan\n");
    expect(loop, h, "DELETE /metrics", "405", "only GET and HEAD\n");
    size_t len;
    AUTO_FREE char *big =
        exchange(loop, h, "GET /debug/plan HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &len);
    assert_non_null(big);
    assert_true(len > 3U << 20);
    httpd_free(h);
    loop_free(loop);
}

struct slow {
    int asked;
    bool there;
};

static bool prepare(void *arg)
{
    struct slow *slow = arg;
    slow->asked++;
    return slow->there;
}

/* They wait, others do not, and all are answered at once; one that went away meanwhile harms nobody. */
static void test_metrics_that_come_later(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loop *loop = loop_new(NULL, NULL);
    struct slow slow = {0};
    struct httpd_options o = {
        .listen = "127.0.0.1:0", .metrics = make_metrics, .prepare_metrics = prepare, .arg = &slow};
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    struct httpd *h = httpd_new(loop, &o, &err);
    assert_non_null(h);
    int fds[2] = {dial(h), dial(h)};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        assert_int_equal(send(fds[i], request, sizeof request - 1, MSG_NOSIGNAL),
                         sizeof request - 1);
    while (slow.asked < 2)
        loop_run_once(loop, 1);
    (void)close(fds[0]);
    expect(loop, h, "GET /healthz", "200", "ok\n");
    char byte = 0;
    assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
    httpd_go_on(h);
    for (int i = 0; i < 1000 && recv(fds[1], &byte, 1, 0) != 1; i++)
        loop_run_once(loop, 1);
    assert_int_equal(byte, 'H'); /* of HTTP/1.1 200 */
    assert_int_equal(slow.asked, 2);
    slow.there = true;
    expect(loop, h, "GET /metrics", "200", "m\n");
    slow.there = false; /* the server ends while one waits */
    assert_int_equal(send(fds[1], request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    while (slow.asked < 4)
        loop_run_once(loop, 1);
    httpd_free(h);
    (void)close(fds[1]);
    loop_free(loop);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct loop *loop = loop_new(NULL, NULL);
    struct httpd *h = start(loop, "127.0.0.1:0");
    AUTO_FREE char *long_line = xmalloc(40000);
    memset(long_line, 'a', 39999);
    long_line[39999] = 0;
    AUTO_FREE char *request = xasprintf("GET /%.20000s HTTP/1.1\r\nHost: x\r\n\r\n", long_line);
    AUTO_FREE char *answer = exchange(loop, h, request, NULL);
    assert_true(strncmp(answer, "HTTP/1.1 4", 10) == 0 || answer[0] == 0);
    AUTO_FREE char *garbage = exchange(loop, h, "\x16\x03\x01\x02\r\n\r\n\r\n", NULL);
    assert_null(strstr(garbage, " 200 "));
    expect(loop, h, "GET /healthz", "200", "ok\n");
    httpd_free(h);
    loop_free(loop);
}

static void test_too_many_connections(void **state)
{
    (void)state;
    int fds[60];
    struct loop *loop = loop_new(NULL, NULL);
    struct httpd *h = start(loop, "127.0.0.1:0");
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial(h);
        loop_run_once(loop, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    for (int i = 0; i < 200; i++)
        loop_run_once(loop, 1);
    expect(loop, h, "GET /healthz", "200", "ok\n");
    httpd_free(h);
    loop_free(loop);
}

static void test_unix_socket(void **state)
{
    (void)state;
    struct loop *loop = loop_new(NULL, NULL);
    char dir[] = "/tmp/httpd-XXXXXX";
    struct stat st;
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *listen = xasprintf("unix:%s/s", dir);
    /* left behind by a killed process */
    struct listen_address a;
    struct err err = ERR_INIT;
    assert_int_equal(listen_parse(listen, &a, &err), 0);
    int dead = listen_open(&a, listen, &err);
    assert_true(dead >= 0);
    (void)close(dead);
    struct httpd *h = start(loop, listen);
    expect(loop, h, "GET /healthz", "200", "ok\n");
    assert_int_equal(stat(listen + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    struct httpd_options o = {.listen = listen};
    assert_null(httpd_new(loop, &o, &err)); /* in use */
    assert_int_equal(err.code, EADDRINUSE);
    httpd_free(h);
    assert_int_equal(stat(listen + 5, &st), -1);
    (void)rmdir(dir);
    loop_free(loop);
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "127.0.0.1", "localhost:80", "127.0.0.1:", "127.0.0.1:70000", "1.2.3:4",
        "::1:80", "[::1]",     "[::1:80",      "a:b",        "unix:relative",   "127.0.0.1:8x",
        "[]:80",  ":"};
    struct listen_address a;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (listen_parse(bad[i], &a, &err) != -EINVAL)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(listen_parse("[::1]:9408", &a, &err), 0);
    assert_int_equal(a.u.any.sa_family, AF_INET6);
    assert_int_equal(listen_parse(":9408", &a, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),        cmocka_unit_test(test_metrics_that_come_later),
        cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_unix_socket),  cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
