#include "node-agent/kube/backoff.h"

#include <stdlib.h>
#include <sys/random.h>

int backoff_next(struct backoff *b, uint32_t random)
{
    int64_t full = b->min_ms;
    for (unsigned i = 0; i < b->failures && full < b->max_ms; i++)
        full *= 2;
    if (full > b->max_ms)
        full = b->max_ms;
    if (b->failures < 64)
        b->failures++;
    int64_t half = full / 2;
    return (int)(full - half + (int64_t)(((uint64_t)random * (uint64_t)(half + 1)) >> 32));
}

int backoff_wait(struct backoff *b, int retry_after_ms, uint32_t random)
{
    int wait = backoff_next(b, random);
    if (retry_after_ms <= wait)
        return wait;
    return retry_after_ms + (int)(((uint64_t)random * (uint64_t)(retry_after_ms / 10 + 1)) >> 32);
}

uint32_t random_u32(void)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        abort(); /* cannot happen for 4 bytes (getrandom(2)) */
    return value;
}
