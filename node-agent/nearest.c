#include "node-agent/nearest.h"

#include <string.h>
#include <strings.h>

#define NEAREST_MAX 40 /* longer input is no slip of the finger */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance, letters compared without case. */
static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t row[NEAREST_MAX + 1];
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t same = strncasecmp(a + i - 1, b + j - 1, 1) == 0 ? 0 : 1;
            size_t cost = min3(row[j] + 1, row[j - 1] + 1, diagonal + same);
            diagonal = row[j];
            row[j] = cost;
        }
    }
    return row[n_b];
}

const char *nearest(const char *typed, const char *const *words, size_t n_words)
{
    size_t n_typed = strnlen(typed, NEAREST_MAX + 1);
    if (n_typed == 0 || n_typed > NEAREST_MAX)
        return NULL;
    const char *best = NULL;
    size_t best_distance = 1 + n_typed / 3;
    for (size_t i = 0; i < n_words; i++) {
        size_t n = strlen(words[i]);
        if (n > NEAREST_MAX)
            continue;
        size_t d = distance(typed, n_typed, words[i], n);
        if (d <= best_distance && (!best || d < best_distance)) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}
