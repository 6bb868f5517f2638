/* Children: those that are watched tell their status, those that nobody knows are reaped by process 1 alone. */
#include "base/loop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    unsigned n;
    pid_t pid;
    int status;
};

static void on_end(void *arg, pid_t pid, int wait_status)
{
    struct seen *seen = arg;
    *seen = (struct seen){seen->n + 1, pid, wait_status};
}

static pid_t child_that_exits(int status)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(status);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* dead, not reaped */
    return pid;
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0;
}

static void orphans_go_and_watched_children_tell(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loop *loop = loop_new(NULL, NULL);
    pid_t early = child_that_exits(0);
    assert_int_equal(loop_reap_orphans(loop, &err), 0);
    assert_true(is_gone(early));

    /* watched ones between others, in every order that the kernel may list them */
    struct seen seen[2] = {{0}, {0}};
    pid_t orphans[3], watched[2];
    for (unsigned i = 0; i < 2; i++) {
        orphans[i] = child_that_exits(1);
        watched[i] = child_that_exits(40 + (int)i);
        assert_non_null(loop_add_child(loop, watched[i], on_end, &seen[i], &err));
    }
    orphans[2] = child_that_exits(1);
    for (unsigned i = 0; i < 4; i++)
        loop_run_once(loop, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(seen[i].n, 1);
        assert_int_equal(seen[i].pid, watched[i]);
        assert_int_equal(WEXITSTATUS(seen[i].status), 40 + i);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_true(is_gone(orphans[i]));
    loop_free(loop);
}

static void others_leave_strangers_alone(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct seen seen = {0};
    struct loop *loop = loop_new(NULL, NULL);
    pid_t stranger = child_that_exits(7);
    assert_non_null(loop_add_child(loop, child_that_exits(3), on_end, &seen, &err));
    loop_run_once(loop, 0);
    assert_int_equal(WEXITSTATUS(seen.status), 3);
    int status = 0;
    assert_int_equal(waitpid(stranger, &status, WNOHANG), stranger);
    assert_int_equal(WEXITSTATUS(status), 7);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_leave_strangers_alone),
        cmocka_unit_test(orphans_go_and_watched_children_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
