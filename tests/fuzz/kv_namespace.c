// The descriptor of a namespace of kvd.
// sources: core0/kv/namespace.c core0/kv/record.c core0/kv/record_crc.c
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kv/namespace.h"
#include "kv/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size)
{
    struct namespace_descriptor d;
    uint8_t again[NAMESPACE_DESCRIPTOR_MAX];

    if (namespace_decode(data, size, &d) < 0)
        return;
    if (!namespace_name_is_good(d.name, strlen(d.name)) || d.retire_count > NAMESPACE_SWAP_MAX ||
        d.adopt_count > NAMESPACE_SWAP_MAX || d.properties.secret_len > STORE_SECRET_MAX)
        abort();
    if (namespace_encode(&d, again) != size || memcmp(again, data, size) != 0)
        abort(); /* only what namespace_encode() writes */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[NAMESPACE_DESCRIPTOR_MAX];
    uint32_t crc;

    decode(data, size);
    if (size < 4 || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size); /* and behind the checksum */
    crc = record_crc32c(0, copy, size - 4);
    for (unsigned i = 0; i < 4; i++)
        copy[size - 4 + i] = (uint8_t)(crc >> (8 * i));
    decode(copy, size);
    return 0;
}
