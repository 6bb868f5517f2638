/* The one error convention: a value on the caller's stack.
 *
 * Fallible functions return 0 (or a count, an fd) on success and a negative code on failure, and take
 * `struct err *err` as their last parameter; it is never NULL. Outputs are untouched on failure.
 *
 * Codes are errno values. Three have a fixed meaning in this project:
 *   EREMOTEIO  the other side understood and said no; its own status is in device_status
 *   EBADMSG    the other side's answer broke the format
 *   ETIMEDOUT  the other side stayed silent
 *
 * Pure, no allocation, thread-safe as long as each thread has its own value.
 */
#ifndef CCN_BASE_ERR_H
#define CCN_BASE_ERR_H

#include <stdint.h>

#define ERR_MSG_SIZE 512

struct err {
    int code;               /* positive errno value; 0 = no error */
    uint32_t device_status; /* raw status of a device or peer, valid with EREMOTEIO */
    char msg[ERR_MSG_SIZE]; /* one finished sentence without full stop; always terminated */
};

#define ERR_INIT ((struct err){0})

/**
 * err_set() - record an error
 * Return: -code, so that `return err_set(err, EINVAL, …)` reads well. A code of 0 is recorded as EIO:
 * an error can never be turned into success.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** err_errno() - as err_set() with errno, and ": " and its text appended. Return: -errno. */
int err_errno(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * err_wrap() - put context in front of the message: "context: cause"
 * When both do not fit the context is cut, never the innermost cause.
 * Return: @r as given (a negative code).
 */
int err_wrap(struct err *err, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
