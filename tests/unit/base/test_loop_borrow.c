/* Another thread is the loop's thread for a moment: only while it sleeps, alone, and what it began comes in time. */
#include "base/loop.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define LATE_MS 20000 /* a loop that is not woken sleeps as long */
#define ROUNDS 2000

struct bench {
    struct loop *loop;
    bool borrowed;
    _Atomic bool late;
    unsigned from_here, from_there, both; /* both: written without any lock but the loop's turn */
    int fd;
};

static void too_late(void *arg)
{
    struct bench *b = arg;
    b->late = true;
    loop_stop(b->loop);
}

/* A loop that came late has ended and does not sleep any more. */
static void borrow(struct bench *b)
{
    while (!loop_borrow(b->loop) && !b->late)
        (void)sched_yield();
}

static void *try_once(void *arg)
{
    struct bench *b = arg;
    b->borrowed = loop_borrow(b->loop);
    if (b->borrowed)
        loop_give_back(b->loop);
    return NULL;
}

static void try_from_a_callback(void *arg)
{
    struct bench *b = arg;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, try_once, b), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    loop_stop(b->loop);
}

static void never_while_it_is_awake(void **state)
{
    (void)state;
    struct bench b = {.loop = loop_new(NULL, NULL), .borrowed = true};
    try_from_a_callback(&b); /* it does not run at all */
    assert_false(b.borrowed);
    b.borrowed = true;
    (void)loop_add_timer(b.loop, 0, try_from_a_callback, &b);
    loop_run(b.loop);
    assert_false(b.borrowed);
    loop_free(b.loop);
}

static void on_timer(void *arg)
{
    struct bench *b = arg;
    b->from_here++;
}

static void *add_timer_then_stop(void *arg)
{
    struct bench *b = arg;
    borrow(b);
    (void)loop_add_timer(b->loop, 1, on_timer, b);
    loop_give_back(b->loop);
    for (unsigned seen = 0; seen == 0;) {
        borrow(b);
        seen = b->from_here + b->late;
        loop_give_back(b->loop);
    }
    borrow(b);
    loop_stop(b->loop);
    loop_give_back(b->loop);
    return NULL;
}

static void what_was_begun_comes_in_time(void **state)
{
    (void)state;
    struct bench b = {.loop = loop_new(NULL, NULL)};
    pthread_t thread;
    (void)loop_add_timer(b.loop, LATE_MS, too_late, &b);
    assert_int_equal(pthread_create(&thread, NULL, add_timer_then_stop, &b), 0);
    loop_run(b.loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(b.late);
    assert_int_equal(b.from_here, 1);
    loop_free(b.loop);
}

static void add_slowly(unsigned *sum)
{
    unsigned before = *sum;
    (void)sched_yield(); /* somebody else's turn, if it could be */
    *sum = before + 1;
}

static void on_readable(void *arg, int fd, uint32_t events)
{
    struct bench *b = arg;
    uint64_t n;
    (void)events;
    assert_int_equal(read(fd, &n, sizeof n), sizeof n);
    b->from_here++;
    add_slowly(&b->both);
}

static void *add_from_there(void *arg)
{
    struct bench *b = arg;
    uint64_t one = 1;
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(write(b->fd, &one, sizeof one), sizeof one);
        borrow(b);
        b->from_there++;
        add_slowly(&b->both);
        loop_give_back(b->loop);
    }
    borrow(b);
    loop_stop(b->loop);
    loop_give_back(b->loop);
    return NULL;
}

static void one_at_a_time(void **state)
{
    (void)state;
    struct bench b = {.loop = loop_new(NULL, NULL), .fd = eventfd(0, EFD_CLOEXEC)};
    pthread_t thread;
    struct loop_fd *source = loop_add_fd(b.loop, b.fd, EPOLLIN, on_readable, &b);
    assert_int_equal(pthread_create(&thread, NULL, add_from_there, &b), 0);
    loop_run(b.loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(b.from_there, ROUNDS);
    assert_true(b.from_here > 0);
    assert_int_equal(b.both, b.from_here + b.from_there);
    loop_remove_fd(source);
    loop_free(b.loop);
    (void)close(b.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_while_it_is_awake),
        cmocka_unit_test(what_was_begun_comes_in_time),
        cmocka_unit_test(one_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
