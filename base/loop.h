/* The event loop: descriptors, timers, signals, children and jobs from other threads on one thread.
 *
 * One loop per thread; everything except loop_post() is called on the loop's own thread. Callbacks may add and
 * remove sources, their own included. Handles are pointers valid until removed (or, for one-shot timers and
 * children, until their callback has run). No callback is called after its source was removed.
 */
#ifndef CCN_BASE_LOOP_H
#define CCN_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct loop;
struct loop_fd;
struct loop_timer;
struct loop_child;

/**
 * loop_new() - a loop
 * @now_ms: monotonic clock, NULL for CLOCK_MONOTONIC; a test with another clock drives loop_run_once(loop, 0)
 */
struct loop *loop_new(int64_t (*now_ms)(void *arg), void *clock_arg);
void loop_free(struct loop *loop); /* removes all sources; accepts NULL */
int64_t loop_now_ms(const struct loop *loop);

/* loop_run() - dispatch until loop_stop(); loop_run_once() - one round, waiting at most timeout_ms (-1: no limit). */
void loop_run(struct loop *loop);
void loop_run_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

/* Descriptors. @events, and what the callback gets: EPOLLIN, EPOLLOUT, EPOLLET …; EPOLLERR, EPOLLHUP always.
 * The descriptor stays the caller's. */
struct loop_fd *loop_add_fd(struct loop *loop, int fd, uint32_t events,
                            void (*cb)(void *arg, int fd, uint32_t events), void *arg);
void loop_change_fd(struct loop_fd *source, uint32_t events);
void loop_remove_fd(struct loop_fd *source); /* accepts NULL; before closing the descriptor */

/* Timers, one-shot. loop_cancel() accepts NULL. */
struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ms, void (*cb)(void *arg),
                                  void *arg);
void loop_cancel(struct loop_timer *timer);

/* Signals: blocks @signo in this thread (call before other threads start) and delivers it as a callback. */
int loop_add_signal(struct loop *loop, int signo, void (*cb)(void *arg, int signo), void *arg,
                    struct err *err);

/* Children: @cb once with the wait status when @pid has ended; reaps it. */
struct loop_child *loop_add_child(struct loop *loop, pid_t pid,
                                  void (*cb)(void *arg, pid_t pid, int wait_status), void *arg,
                                  struct err *err);

/**
 * loop_reap_orphans() - for process 1 of a container: from now on reaps every ended child that is not watched, such as
 * the modprobe of a worker that was killed, which the kernel hands to process 1
 * Whoever starts a child in such a process watches it before the loop runs again, else its status is lost.
 */
int loop_reap_orphans(struct loop *loop, struct err *err);

/**
 * loop_borrow() - from another thread: be the loop's thread for a moment
 * Possible only while the loop sleeps, and it does not wake before loop_give_back(): whoever gets it runs callbacks of the
 * loop's things as if the loop had called them, and spares two switches between threads. Never waits.
 * Return: false when the loop is awake: use loop_post() then.
 */
bool loop_borrow(struct loop *loop);
void loop_give_back(struct loop *loop);

/* loop_post() - from any thread: run cb(arg) on the loop's thread, in order. */
void loop_post(struct loop *loop, void (*cb)(void *arg), void *arg);

#endif
