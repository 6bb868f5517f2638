/* Scope-bound cleanup and allocation that cannot fail.
 *
 * AUTO_x variables are released when they leave scope and must be initialised. TAKE() hands the value on.
 * Effects on the machine (a bound driver, a staged mode) are never undone by scope exit: that is a step of a plan.
 * Out of memory aborts; lengths from outside are limited first, so a peer cannot cause it.
 */
#ifndef CCN_BASE_AUTO_H
#define CCN_BASE_AUTO_H

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_free_ptr(void *p)
{
    free(*(void **)p);
}
static inline void auto_close_fd(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}
static inline void auto_close_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}
static inline void auto_close_dir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

#define AUTO(fn) __attribute__((cleanup(fn)))
#define AUTO_FREE AUTO(auto_free_ptr)
#define AUTO_CLOSE AUTO(auto_close_fd)
#define AUTO_FCLOSE AUTO(auto_close_file)
#define AUTO_CLOSEDIR AUTO(auto_close_dir)

/* TAKE(p) - the pointer, and the variable is NULL from now on; TAKE_FD(fd) likewise with -1 */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __typeof__(p) take_ = (p);                                                                 \
        (p) = NULL;                                                                                \
        take_;                                                                                     \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int take_ = (fd);                                                                          \
        (fd) = -1;                                                                                 \
        take_;                                                                                     \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n, size_t size); /* n elements of size; aborts on overflow */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
