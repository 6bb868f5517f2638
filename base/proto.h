/* Protocol buffers from outside: unpacked within a budget, text checked.
 *
 * protobuf-c takes what a message describes: 4 MiB on the wire can become 146 MB of empty submessages, text is not
 * checked and ends at an embedded zero. Here memory is limited, and text fields are declared as `bytes` in our .proto files
 * (the same on the wire) and taken through proto_text().
 */
#ifndef CCN_BASE_PROTO_H
#define CCN_BASE_PROTO_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message and the memory that it took so far. Zero-initialise. */
struct proto {
    ProtobufCMessage *message; /* NULL: not unpacked */
    ProtobufCAllocator allocator;
    size_t left;
};

/**
 * proto_unpack() - decode
 * @budget: bytes of memory at most, in all
 * Return: the message (proto->message), or NULL when it is broken or too rich; proto_free() in either case.
 */
void *proto_unpack(struct proto *proto, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                   size_t n, size_t budget);
void proto_free(struct proto *proto);
#define AUTO_PROTO __attribute__((cleanup(proto_free)))

/* proto_pack() - the message's bytes, malloc'ed; never NULL */
uint8_t *proto_pack(const ProtobufCMessage *message, size_t *ret_n);

/* proto_text() - a text field is UTF-8, without zeros and control characters, at most @max bytes long */
bool proto_text(const ProtobufCBinaryData *field, size_t max);
/* text_utf8() - the same for text of our own, n bytes */
bool text_utf8(const void *text, size_t n);

#endif
