#include "node-agent/kube/framing.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>

#include "base/auto.h"

#define MAX_DEPTH 64

struct framing {
    struct json_tokener *tokener;
    size_t max;
    size_t document_bytes; /* of the document begun */
    char tail
        [4]; /* a UTF-8 character whose rest has not come yet: json-c refuses a piece that ends in one */
    size_t n_tail;
    int (*on_document)(void *arg, struct json_object *doc, struct err *err);
    void *arg;
};

static struct json_tokener *new_tokener(void)
{
    struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
    if (!tokener)
        abort();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS |
                                        JSON_TOKENER_VALIDATE_UTF8);
    return tokener;
}

struct framing *framing_new(size_t max,
                            int (*on_document)(void *arg, struct json_object *doc, struct err *err),
                            void *arg)
{
    struct framing *f = xcalloc(1, sizeof *f);
    *f = (struct framing){
        .tokener = new_tokener(), .max = max, .on_document = on_document, .arg = arg};
    return f;
}

void framing_free(struct framing *f)
{
    if (!f)
        return;
    json_tokener_free(f->tokener);
    free(f);
}

bool framing_is_partial(const struct framing *f)
{
    return f->document_bytes > 0 || f->n_tail > 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int bad(struct json_tokener *tokener, const char *at, size_t len, struct err *err)
{
    char seen[25];
    size_t n = 0;
    for (size_t i = 0; i < len && n < sizeof seen - 1; i++)
        seen[n++] = at[i] >= ' ' && at[i] < 0x7f ? at[i] : '?';
    seen[n] = 0;
    return err_set(err, EBADMSG, "not JSON (%s) near \"%s\"",
                   json_tokener_error_desc(json_tokener_get_error(tokener)), seen);
}

/* Feeds until a document is complete or the input ends. Return: bytes used, or negative. */
static int64_t feed_some(struct framing *f, const char *data, size_t len, struct err *err)
{
    size_t piece = len > INT_MAX / 2 ? INT_MAX / 2 : len;
    struct json_object *doc = json_tokener_parse_ex(f->tokener, data, (int)piece);
    enum json_tokener_error state = json_tokener_get_error(f->tokener);
    if (state == json_tokener_continue) {
        f->document_bytes += piece;
        if (f->document_bytes > f->max)
            return err_set(err, EFBIG, "a document is larger than %zu bytes", f->max);
        return (int64_t)piece;
    }
    size_t used = json_tokener_get_parse_end(f->tokener);
    if (state != json_tokener_success || used == 0) {
        json_object_put(doc);
        return bad(f->tokener, data + (used < len ? used : 0), used < len ? len - used : len, err);
    }
    f->document_bytes = 0;
    json_tokener_reset(f->tokener);
    /* a number or a word at the top would be cut by the end of a piece; objects only, as the API server sends */
    int r = json_object_is_type(doc, json_type_object)
                ? f->on_document(f->arg, doc, err)
                : err_set(err, EBADMSG, "a document of the stream is not an object");
    json_object_put(doc);
    return r < 0 ? r : (int64_t)used;
}

static int feed_all(struct framing *f, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        if (f->document_bytes == 0 && is_space(*data)) {
            data++;
            len--;
            continue;
        }
        int64_t n = feed_some(f, data, len, err);
        if (n < 0)
            return (int)n;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Bytes that a character beginning with @lead has, as far as its first byte tells. */
static size_t utf8_size(unsigned char lead)
{
    return lead >= 0xf0 && lead < 0xf8 ? 4 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xc0 ? 2 : 1;
}

/* Bytes at the end of @data that begin a character without its end. */
static size_t unfinished(const char *data, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)data[len - back];
        if (c >= 0xc0)
            return utf8_size(c) > back ? back : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

int framing_feed(struct framing *f, const char *data, size_t len, struct err *err)
{
    while (f->n_tail && len) {
        f->tail[f->n_tail++] = *data++;
        len--;
        if (f->n_tail < utf8_size((unsigned char)f->tail[0]))
            continue;
        int r = feed_all(f, f->tail, f->n_tail, err);
        if (r < 0)
            return r;
        f->n_tail = 0;
    }
    if (!len)
        return 0;
    size_t rest = unfinished(data, len);
    memcpy(f->tail, data + len - rest, rest);
    f->n_tail = rest;
    return feed_all(f, data, len - rest, err);
}

struct json_object *json_parse_whole(const char *text, size_t len, struct err *err)
{
    struct json_tokener *tokener = new_tokener();
    struct json_object *doc = NULL;
    if (len < INT_MAX)
        doc = json_tokener_parse_ex(tokener, text, (int)len);
    size_t used = json_tokener_get_parse_end(tokener);
    bool whole = doc && json_tokener_get_error(tokener) == json_tokener_success;
    while (whole && used < len)
        whole = is_space(text[used++]);
    if (!whole) {
        (void)bad(tokener, text, len, err);
        json_object_put(doc);
        doc = NULL;
    } else if (!json_object_is_type(doc, json_type_object)) {
        (void)err_set(err, EBADMSG, "the answer is JSON but not an object");
        json_object_put(doc);
        doc = NULL;
    }
    json_tokener_free(tokener);
    return doc;
}
