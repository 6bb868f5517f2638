/* Exponential waiting with jitter, so that a fleet of agents does not come back in step. Pure. */
#ifndef CCN_KUBE_BACKOFF_H
#define CCN_KUBE_BACKOFF_H

#include <stdint.h>

struct backoff {
    int min_ms, max_ms;
    unsigned failures; /* in a row */
};

/**
 * backoff_next() - how long to wait now; counts a failure
 * @random: any 32 random bits
 * Return: half to all of min(max_ms, min_ms * 2^failures)
 */
int backoff_next(struct backoff *backoff, uint32_t random);

/* backoff_wait() - the same, but at least what the server asked for (-1: nothing) and up to a tenth more */
int backoff_wait(struct backoff *backoff, int retry_after_ms, uint32_t random);

uint32_t random_u32(void); /* getrandom(2) */

#endif
