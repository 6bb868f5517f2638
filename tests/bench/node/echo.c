/* What this machine takes for a call that does nothing: 200 bytes to another process and back, each asleep until they come.
 * gRPC over a unix socket cannot take less. Prints the answering process's CPU and the round trip, both in microseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 10000
#define BYTES 200

static double us(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void answer(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    char text[BYTES];
    int epoll = epoll_create1(0);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        exit(1);
    double began = us(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < CALLS; i++) {
        if (epoll_wait(epoll, &event, 1, -1) != 1 ||
            recv(fd, text, sizeof text, MSG_WAITALL) != BYTES ||
            send(fd, text, sizeof text, 0) != BYTES)
            exit(1);
    }
    printf("%.1f ", (us(CLOCK_PROCESS_CPUTIME_ID) - began) / CALLS);
    (void)fflush(stdout);
    exit(0);
}

int main(void)
{
    int fds[2], status = -1;
    char text[BYTES] = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0)
        answer(fds[1]);
    double began = us(CLOCK_MONOTONIC);
    for (int i = 0; i < CALLS && pid > 0; i++) {
        if (send(fds[0], text, sizeof text, 0) != BYTES ||
            recv(fds[0], text, sizeof text, MSG_WAITALL) != BYTES)
            return 1;
    }
    double took = (us(CLOCK_MONOTONIC) - began) / CALLS;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return 1;
    printf("%.1f\n", took);
    return 0;
}
