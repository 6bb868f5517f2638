/* "Did you mean …?": the known word nearest to what somebody typed. Pure. */
#ifndef CCN_AGENT_NEAREST_H
#define CCN_AGENT_NEAREST_H

#include <stddef.h>

/* nearest() - Return: the word of @words with the smallest edit distance to @typed, or NULL when even that one is
 * too far away to be what was meant (more than a third of the letters, at least one, differ). */
const char *nearest(const char *typed, const char *const *words, size_t n_words);

#endif
