#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    err->code = code > 0 ? code : EIO;
    err->device_status = 0;
    va_start(ap, fmt);
    (void)vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return -err->code;
}

int err_errno(struct err *err, const char *fmt, ...)
{
    int code = errno > 0 ? errno : EIO;
    va_list ap;
    err->code = code;
    err->device_status = 0;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n < sizeof err->msg)
        (void)snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", strerror(code));
    return -code;
}

int err_wrap(struct err *err, int r, const char *fmt, ...)
{
    char context[ERR_MSG_SIZE];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);

    size_t cause_len = strlen(err->msg);
    size_t room = sizeof err->msg - 1 - cause_len;
    if (room < 3)
        return r; /* no room for even one character of context */
    size_t context_len = strlen(context);
    if (context_len > room - 2)
        context_len = room - 2;
    memmove(err->msg + context_len + 2, err->msg, cause_len + 1);
    memcpy(err->msg, context, context_len);
    memcpy(err->msg + context_len, ": ", 2);
    return r;
}
