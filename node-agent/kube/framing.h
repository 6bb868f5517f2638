/* A stream of JSON documents, as a watch sends them, from pieces of any size.
 *
 * Documents are found by JSON depth, not by line or piece. The one that is not complete at the end of the stream is
 * dropped. Strict JSON (json-c's, which takes NaN and keys in single quotes), valid UTF-8, at most 64 levels; one document at most @max bytes. No I/O.
 */
#ifndef CCN_KUBE_FRAMING_H
#define CCN_KUBE_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct json_object;
struct framing;

/**
 * framing_new()
 * @on_document: gets each complete document, borrowed; a negative return ends the feeding with that code
 */
struct framing *framing_new(size_t max,
                            int (*on_document)(void *arg, struct json_object *doc, struct err *err),
                            void *arg);
void framing_free(struct framing *framing); /* accepts NULL */

/* framing_feed() - Return: 0; -EBADMSG not JSON (where), -EFBIG; what on_document returned. After an error: free it. */
int framing_feed(struct framing *framing, const char *data, size_t len, struct err *err);

/* framing_is_partial() - the stream stands inside a document */
bool framing_is_partial(const struct framing *framing);

/* json_parse_whole() - one document and nothing behind it; the caller's, json_object_put(). NULL: -EBADMSG in err. */
struct json_object *json_parse_whole(const char *text, size_t len, struct err *err);

#endif
