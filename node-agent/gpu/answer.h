/* One line of the worker's answers: a flat JSON object, written member by member. Inside the room. */
#ifndef CCN_GPU_ANSWER_H
#define CCN_GPU_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Grows as needed; a comma is put where one belongs. Zero-initialised; answer_free(). */
struct answer {
    char *text;
    size_t len, room;
    bool first; /* nothing was written yet inside the innermost { or [ */
};

/* @key NULL: an element of an array, or the object itself */
void answer_open(struct answer *a, const char *key, char bracket); /* '{' or '[' */
void answer_close(struct answer *a, char bracket);                 /* '}' or ']' */
/* text is escaped; bytes that are not ASCII become "?": nothing from outside can break a line or an encoding */
void answer_text(struct answer *a, const char *key, const char *value);
void answer_number(struct answer *a, const char *key, int64_t value);
void answer_bool(struct answer *a, const char *key, bool value);
void answer_null(struct answer *a, const char *key);
/* answer_append() - members written elsewhere, with a comma before them */
void answer_append(struct answer *a, const struct answer *members);
void answer_free(struct answer *a);

#endif
