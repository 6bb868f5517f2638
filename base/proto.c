#include "base/proto.h"

#include "base/auto.h"

static void *take(void *data, size_t size)
{
    struct proto *proto = data;
    size_t cost = size + 2 * sizeof(void *); /* what malloc adds */
    if (cost < size || cost > proto->left)
        return NULL;
    proto->left -= cost;
    return malloc(size);
}

static void give(void *data, void *p)
{
    (void)data;
    free(p);
}

void *proto_unpack(struct proto *proto, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                   size_t n, size_t budget)
{
    *proto = (struct proto){.left = budget};
    proto->allocator = (ProtobufCAllocator){.alloc = take, .free = give, .allocator_data = proto};
    proto->message = protobuf_c_message_unpack(type, &proto->allocator, n, data);
    return proto->message;
}

void proto_free(struct proto *proto)
{
    if (proto->message)
        protobuf_c_message_free_unpacked(proto->message, &proto->allocator);
    proto->message = NULL;
}

uint8_t *proto_pack(const ProtobufCMessage *message, size_t *ret_n)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *data = xmalloc(n ? n : 1);
    *ret_n = protobuf_c_message_pack(message, data);
    return data;
}

/* Length of the sequence that starts with @lead, 0 when none does (RFC 3629 section 4). */
static size_t sequence_length(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead < 0xe0)
        return 2;
    if (lead >= 0xe0 && lead < 0xf0)
        return 3;
    return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

/* Second byte: the ranges that keep out overlong forms, surrogates and what is beyond U+10FFFF. */
static bool second_fits(uint8_t lead, uint8_t second)
{
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high;
}

bool text_utf8(const void *text, size_t n)
{
    const uint8_t *p = text;
    for (size_t i = 0; i < n;) {
        size_t length = sequence_length(p[i]);
        if (length == 0 || length > n - i || p[i] < 0x20 || p[i] == 0x7f)
            return false;
        if (length > 1 && !second_fits(p[i], p[i + 1]))
            return false;
        for (size_t k = 2; k < length; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        i += length;
    }
    return true;
}

bool proto_text(const ProtobufCBinaryData *field, size_t max)
{
    return field->len <= max && text_utf8(field->data, field->len);
}
