/* Our server and our calls on one loop: every kind of end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/auto.h"
#include "base/rpc.h"

#define LONG_NAME "a-name-as-long-as-the-longest-that-we-make-for-a-resource-of-kubelet.sock"

struct world {
    char dir[32];
    struct host host;
    struct loop *loop;
    struct rpc *rpc;
    struct rpc_server *server;
    struct rpc_stream *stream;
    int opened, closed, stopped, answers;
    struct rpc_result result;
    char data[64];
};

static void echo(void *arg, const uint8_t *in, size_t n, struct rpc_answer *answer)
{
    (void)arg;
    if (n > 0 && in[0] == '!') {
        answer->status = RPC_FAILED_PRECONDITION;
        if (n > 1 && in[1] == '8') {
            memcpy(answer->text, "bad \xc3 text", 11);
            return;
        }
        (void)snprintf(answer->text, sizeof answer->text, "no: \xc3\xa4%%\n%.*s", (int)n,
                       (const char *)in);
        return;
    }
    answer->data = n ? xmalloc(n) : NULL;
    answer->n = n;
    if (n)
        memcpy(answer->data, in, n);
}

static void opened(void *arg, struct rpc_stream *stream, const uint8_t *in, size_t n)
{
    struct world *w = arg;
    (void)in;
    (void)n;
    w->opened++;
    w->stream = stream;
}

static void closed(void *arg, struct rpc_stream *stream)
{
    struct world *w = arg;
    assert_ptr_equal(stream, w->stream);
    w->stream = NULL;
    w->closed++;
}

static const struct rpc_method methods[] = {{.path = "/t.T/Echo", .unary = echo},
                                            {.path = "/t.T/Watch", .opened = opened}};

static int setup(void **state)
{
    struct err err = ERR_INIT;
    struct world *w = xcalloc(1, sizeof *w);
    static struct rpc_service service;
    service = (struct rpc_service){2, methods, closed, w};
    strcpy(w->dir, "/tmp/rpc-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(host_open(&w->host, w->dir, &err), 0);
    w->loop = loop_new(NULL, NULL);
    w->rpc = rpc_new(w->loop, &err);
    assert_non_null(w->rpc);
    w->server = rpc_listen(w->rpc, &w->host, "/", LONG_NAME, &service, &err);
    assert_non_null(w->server);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    rpc_free(w->rpc);
    loop_free(w->loop);
    AUTO_FREE char *path = xasprintf("%s/%s", w->dir, LONG_NAME);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing left, however the test ended */
    assert_int_equal(rmdir(w->dir), 0);
    host_close(&w->host);
    free(w);
    return 0;
}

static void answered(void *arg, const struct rpc_result *result)
{
    struct world *w = arg;
    w->answers++;
    w->result = *result;
    size_t n = result->n < sizeof w->data - 1 ? result->n : sizeof w->data - 1;
    if (n)
        memcpy(w->data, result->data, n);
    w->data[n] = '\0';
}

static struct rpc_call *call(struct world *w, const char *method, const char *text, int ms,
                             size_t max)
{
    struct rpc_request request = {.host = &w->host,
                                  .socket = "/" LONG_NAME,
                                  .method = method,
                                  .data = (const uint8_t *)text,
                                  .n = strlen(text),
                                  .timeout_ms = ms,
                                  .max_answer = max};
    return rpc_call(w->rpc, &request, answered, w);
}

static void give_up(void *arg)
{
    (void)arg;
    fail_msg("not within 10 s");
}

static void until(struct world *w, const int *what, int value)
{
    struct loop_timer *limit = loop_add_timer(w->loop, 10000, give_up, NULL);
    while (*what < value)
        loop_run_once(w->loop, -1);
    loop_cancel(limit);
}

static void test_unary(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Echo", "hello", 5000, 1000);
    assert_int_equal(w->answers, 0); /* never from inside rpc_call() */
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, 0);
    assert_string_equal(w->data, "hello");
    (void)call(w, "/t.T/Echo", "", 5000, 1000);
    until(w, &w->answers, 2);
    assert_int_equal(w->result.r, 0);
    assert_int_equal(w->result.n, 0);
}

static void test_errors(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Echo", "!x", 5000, 1000);
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, -EREMOTEIO);
    assert_int_equal(w->result.err.device_status, RPC_FAILED_PRECONDITION);
    assert_non_null(
        strstr(w->result.err.msg, "FAILED_PRECONDITION: no: \xc3\xa4% !x")); /* no line break */
    (void)call(w, "/t.T/Echo", "!8", 5000, 1000);
    until(w, &w->answers, 2);
    assert_non_null(strstr(w->result.err.msg, "bad ? text"));
    (void)call(w, "/t.T/Nothing", "", 5000, 1000);
    until(w, &w->answers, 3);
    assert_int_equal(w->result.r, -ENOSYS); /* at once, not at the deadline */
    (void)call(w, "/t.T/Echo", "0123456789", 5000, 4);
    until(w, &w->answers, 4);
    assert_int_equal(w->result.r, -EFBIG);
    AUTO_FREE char *big = xmalloc(RPC_MAX_REQUEST + 2);
    memset(big, 'x', RPC_MAX_REQUEST + 1);
    big[RPC_MAX_REQUEST + 1] = '\0';
    (void)call(w, "/t.T/Echo", big, 5000, 1 << 20);
    until(w, &w->answers, 5);
    assert_int_equal(w->result.r, -EFBIG);
}

static void test_no_server(void **state)
{
    struct world *w = *state;
    struct rpc_request request = {
        .host = &w->host, .socket = "/none", .method = "/t.T/Echo", .timeout_ms = 1000};
    (void)rpc_call(w->rpc, &request, answered, w);
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, -ENOENT);
    request.socket = "/";
    (void)rpc_call(w->rpc, &request, answered, w);
    until(w, &w->answers, 2);
    assert_int_equal(w->result.r, -ENOTSOCK);
}

static void test_deadline_and_cancel(void **state)
{
    struct world *w = *state;
    int64_t start = loop_now_ms(w->loop);
    (void)call(w, "/t.T/Watch", "", 100,
               1000); /* a stream that nobody writes to, asked for as a unary call */
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, -ETIMEDOUT);
    assert_in_range(loop_now_ms(w->loop) - start, 90, 1500);
    until(w, &w->closed, 1);
    struct rpc_call *second = call(w, "/t.T/Watch", "", 60000, 1000);
    until(w, &w->opened, 2);
    rpc_cancel(second);
    until(w, &w->closed, 2);
    assert_int_equal(w->answers, 1);
    rpc_cancel(call(w, "/t.T/Echo", "x", 1000, 1000));
    rpc_cancel(NULL);
}

static void test_streams_carry_the_newest_state(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Watch", "", 5000, 1000);
    until(w, &w->opened, 1);
    rpc_stream_set_data(w->stream, w);
    assert_ptr_equal(rpc_stream_data(w->stream), w);
    rpc_stream_send(w->stream, (const uint8_t *)"last", 4);
    rpc_stream_finish(w->stream, RPC_OK, NULL);
    rpc_stream_finish(w->stream, RPC_INTERNAL, "too late"); /* the first one counts */
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, 0);
    assert_string_equal(w->data, "last");
    until(w, &w->closed, 1);
}

static void stopped(void *arg)
{
    struct world *w = arg;
    w->stopped++;
}

static void test_stop_ends_streams(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Watch", "", 5000, 1000);
    until(w, &w->opened, 1);
    rpc_stream_send(w->stream, (const uint8_t *)"bye", 3);
    rpc_server_stop(w->server, stopped, w);
    until(w, &w->answers, 1);
    assert_int_equal(w->result.r, 0);
    assert_string_equal(w->data, "bye");
    until(w, &w->stopped, 1);
    assert_int_equal(w->closed, 1);
    (void)call(w, "/t.T/Echo", "", 1000, 1000);
    until(w, &w->answers, 2);
    assert_int_equal(w->result.r, -ENOENT);
}

static void test_kill_says_nothing(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Watch", "", 5000, 1000);
    until(w, &w->opened, 1);
    rpc_server_kill(w->server);
    until(w, &w->answers, 1);
    assert_int_not_equal(w->result.r, 0);
    assert_int_equal(w->closed, 0);
}

static void test_free_with_everything_open(void **state)
{
    struct world *w = *state;
    (void)call(w, "/t.T/Watch", "", 5000, 1000);
    until(w, &w->opened, 1);
    (void)call(w, "/t.T/Echo", "x", 5000, 1000); /* teardown frees */
}

static void count(void *arg, const struct rpc_result *result)
{
    struct world *w = arg;
    w->answers++;
    assert_true(result->r == 0 || result->r == -ECONNRESET || result->r == -ENOENT ||
                result->r == -ECONNREFUSED || result->r == -EREMOTEIO);
}

static void many_calls(struct world *w, int n)
{
    struct rpc_request request = {.host = &w->host,
                                  .socket = "/" LONG_NAME,
                                  .method = "/t.T/Echo",
                                  .data = (const uint8_t *)"x",
                                  .n = 1,
                                  .timeout_ms = 5000,
                                  .max_answer = 100};
    for (int i = 0; i < n; i++)
        (void)rpc_call(w->rpc, &request, count, w);
}

static void test_stop_under_load(void **state)
{
    struct world *w = *state;
    many_calls(w, 14); /* the queue of the socket holds 16 */
    until(w, &w->answers, 3);
    rpc_server_stop(w->server, stopped, w);
    until(w, &w->stopped, 1);
    until(w, &w->answers, 14); /* each has its end, one way or the other */
}

static void test_free_under_load(void **state)
{
    struct world *w = *state;
    many_calls(w, 14);
    until(w, &w->answers, 3); /* teardown frees: no callback comes for the others */
}

static void test_sockets_of_others_are_left_alone(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct rpc_service service = {2, methods, closed, w};
    assert_int_equal(rpc_server_presence(w->server), RPC_SOCKET_OURS);
    struct rpc_server *newer = rpc_listen(w->rpc, &w->host, "/", LONG_NAME, &service, &err);
    assert_non_null(newer);
    assert_int_equal(rpc_server_presence(w->server), RPC_SOCKET_TAKEN);
    rpc_server_stop(w->server, stopped, w);
    until(w, &w->stopped, 1);
    assert_int_equal(rpc_server_presence(newer), RPC_SOCKET_OURS); /* grpc/grpc issue 17122 */
    AUTO_FREE char *path = xasprintf("%s/%s", w->dir, LONG_NAME);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rpc_server_presence(newer), RPC_SOCKET_GONE);
    assert_int_equal(rpc_server_rebind(newer, &err), 0);
    assert_int_equal(rpc_server_presence(newer), RPC_SOCKET_OURS);
    (void)call(w, "/t.T/Echo", "again", 5000, 1000);
    until(w, &w->answers, 1);
    assert_string_equal(w->data, "again");
    rpc_server_stop(newer, stopped, w);
    until(w, &w->stopped, 2);
}

static void test_socket_mode(void **state)
{
    struct world *w = *state;
    struct stat st;
    AUTO_FREE char *path = xasprintf("%s/%s", w->dir, LONG_NAME);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_status_names(void **state)
{
    (void)state;
    assert_string_equal(rpc_status_name(RPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(rpc_status_name(99), "UNKNOWN");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_unary),
        CASE(test_errors),
        CASE(test_no_server),
        CASE(test_deadline_and_cancel),
        CASE(test_streams_carry_the_newest_state),
        CASE(test_stop_ends_streams),
        CASE(test_kill_says_nothing),
        CASE(test_free_with_everything_open),
        CASE(test_stop_under_load),
        CASE(test_free_under_load),
        CASE(test_sockets_of_others_are_left_alone),
        CASE(test_socket_mode),
        cmocka_unit_test(test_status_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
