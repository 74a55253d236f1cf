/*
 * namespace.c - see namespace.h.
 *
 * Little-endian: "CROFTNS1", u32 id, u64 identity, u8 deleted, u8 mode, u8 flags (1 public, 2 worm, 4 maxdisk,
 * 8 TLS required), u8 lock, u64 created, u64 maxsize, u32 floor, u64 base, u64 next id, u64 compacted to, u64 swaps,
 * u8 + name, u16 + secret, u8 + u32 ids to retire, u8 + u32 ids to adopt, with flag 4 u64 maxdisk (not 0),
 * u32 CRC32C of all before.
 */
#include "kv/namespace.h"

#include <errno.h>
#include <string.h>

#include "kv/record.h"

static const char magic[8] = {'C', 'R', 'O', 'F', 'T', 'N', 'S', '1'};

struct writer {
    uint8_t *at;
};

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

static void put(struct writer *writer, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *writer->at++ = (uint8_t)(value >> (8 * i));
}

static void put_bytes(struct writer *writer, const void *data, size_t len)
{
    memcpy(writer->at, data, len);
    writer->at += len;
}

static uint64_t get(struct reader *reader, unsigned bytes)
{
    uint64_t value = 0;

    if ((size_t)(reader->end - reader->at) < bytes) {
        reader->failed = true;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)*reader->at++ << (8 * i);
    return value;
}

static void get_bytes(struct reader *reader, void *to, size_t len, size_t max)
{
    if (len > max || (size_t)(reader->end - reader->at) < len) {
        reader->failed = true;
        return;
    }
    memcpy(to, reader->at, len);
    reader->at += len;
}

bool namespace_name_is_good(const char *name, size_t len)
{
    return len > 0 && len <= STORE_NAME_MAX && memchr(name, '\0', len) == NULL;
}

size_t namespace_encode(const struct namespace_descriptor *from,
                        uint8_t out[NAMESPACE_DESCRIPTOR_MAX])
{
    struct writer writer = {.at = out};
    const struct store_properties *properties = &from->properties;

    put_bytes(&writer, magic, sizeof(magic));
    put(&writer, from->id, 4);
    put(&writer, from->identity, 8);
    put(&writer, from->deleted, 1);
    put(&writer, (uint64_t)properties->mode, 1);
    put(&writer,
        (properties->is_public ? 1u : 0) | (properties->worm ? 2u : 0) |
            (properties->maxdisk != 0 ? 4u : 0) | (properties->tls_required ? 8u : 0),
        1);
    put(&writer, (uint64_t)properties->lock, 1);
    put(&writer, from->created, 8);
    put(&writer, properties->maxsize, 8);
    put(&writer, from->floor, 4);
    put(&writer, from->base, 8);
    put(&writer, from->next_id, 8);
    put(&writer, from->compacted_to, 8);
    put(&writer, from->swaps, 8);
    put(&writer, strlen(from->name), 1);
    put_bytes(&writer, from->name, strlen(from->name));
    put(&writer, properties->secret_len, 2);
    put_bytes(&writer, properties->secret, properties->secret_len);
    put(&writer, from->retire_count, 1);
    for (uint32_t i = 0; i < from->retire_count; i++)
        put(&writer, from->retire[i], 4);
    put(&writer, from->adopt_count, 1);
    for (uint32_t i = 0; i < from->adopt_count; i++)
        put(&writer, from->adopt[i], 4);
    if (properties->maxdisk != 0)
        put(&writer, properties->maxdisk, 8);
    put(&writer, record_crc32c(0, out, (size_t)(writer.at - out)), 4);
    return (size_t)(writer.at - out);
}

static uint32_t get_ids(struct reader *reader, uint32_t ids[NAMESPACE_SWAP_MAX])
{
    uint32_t count = (uint32_t)get(reader, 1);

    if (count > NAMESPACE_SWAP_MAX) {
        reader->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (uint32_t)get(reader, 4);
    return count;
}

int namespace_decode(const void *data, size_t len, struct namespace_descriptor *ret)
{
    const uint8_t *bytes = data;
    struct reader reader = {.at = bytes + sizeof(magic), .end = bytes + len}, tail;
    struct namespace_descriptor d = {0};
    uint64_t deleted, mode, flags, lock, name_len;

    if (len < sizeof(magic) + 4 || len > NAMESPACE_DESCRIPTOR_MAX ||
        memcmp(bytes, magic, sizeof(magic)) != 0)
        return -EBADMSG;
    reader.end -= 4;
    tail = (struct reader){.at = reader.end, .end = reader.end + 4};
    if (get(&tail, 4) != record_crc32c(0, bytes, len - 4))
        return -EBADMSG;
    d.id = (uint32_t)get(&reader, 4);
    d.identity = get(&reader, 8);
    deleted = get(&reader, 1);
    mode = get(&reader, 1);
    flags = get(&reader, 1);
    lock = get(&reader, 1);
    d.created = get(&reader, 8);
    d.properties.maxsize = get(&reader, 8);
    d.floor = (uint32_t)get(&reader, 4);
    d.base = get(&reader, 8);
    d.next_id = get(&reader, 8);
    d.compacted_to = get(&reader, 8);
    d.swaps = get(&reader, 8);
    name_len = get(&reader, 1);
    get_bytes(&reader, d.name, name_len, STORE_NAME_MAX);
    d.properties.secret_len = (uint16_t)get(&reader, 2);
    get_bytes(&reader, d.properties.secret, d.properties.secret_len, STORE_SECRET_MAX);
    d.retire_count = get_ids(&reader, d.retire);
    d.adopt_count = get_ids(&reader, d.adopt);
    if ((flags & 4) != 0) {
        d.properties.maxdisk = get(&reader, 8);
        reader.failed |= d.properties.maxdisk == 0;
    }
    if (reader.failed || reader.at != reader.end || deleted > 1 || mode > STORE_SEQ || flags > 15 ||
        lock > STORE_FROZEN || !namespace_name_is_good(d.name, name_len))
        return -EBADMSG;
    d.deleted = deleted != 0;
    d.properties.mode = (enum store_mode)mode;
    d.properties.is_public = (flags & 1) != 0;
    d.properties.worm = (flags & 2) != 0;
    d.properties.tls_required = (flags & 8) != 0;
    d.properties.lock = (enum store_lock)lock;
    *ret = d;
    return 0;
}
