/* Whole answers: errors, pods, Retry-After, texts that go into bodies. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "node-agent/kube/bodies.h"
#include "node-agent/kube/client.h"
#include "node-agent/kube/framing.h"
#include "node-agent/kube/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {401, 403, 404, 409, 422, 429, 500, 302};
    struct err err = ERR_INIT;
    struct kube_pod pod;
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct http_answer answer = {
        .status = statuses[size % ARRAY_LEN(statuses)], .body = text, .len = strlen(text)};
    if (answer_check(&answer, "get", "pods", &err) == 0)
        abort();
    struct json_object *object = json_parse_whole(text, strlen(text), &err);
    if (object && pod_decode(object, &pod, &err) == 0)
        (void)kube_pod_may_be_evicted(&pod, NULL);
    json_object_put(object);
    (void)http_retry_after(text, 1767323040);
    AUTO_FREE char *clean = text_clean(text, 100);
    AUTO_FREE char *twice = text_clean(clean, 100);
    if (strlen(clean) > 100 || strcmp(clean, twice) != 0)
        abort();
    AUTO_FREE char *escaped = url_escape(text);
    if (strpbrk(escaped, "/?&# \r\n"))
        abort();
    return 0;
}
