/*
 * resources.c - see resources.h.
 */
#include "lib/grid/resources.h"

#include <stddef.h>
#include <string.h>

static const struct {
    size_t offset, size; /* in the word */
    size_t field;
} fields[] = {
    {0, 4, offsetof(struct grid_resources, milli_cores)},
    {4, 8, offsetof(struct grid_resources, memory)},
    {12, 8, offsetof(struct grid_resources, ssd)},
    {20, 8, offsetof(struct grid_resources, hdd)},
    {28, 4, offsetof(struct grid_resources, addresses)},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

void grid_resources_unpack(const uint8_t packed[32], struct grid_resources *ret_resources)
{
    for (size_t i = 0; i < FIELDS; i++) {
        uint64_t value = 0;
        for (size_t b = 0; b < fields[i].size; b++)
            value = value << 8 | packed[fields[i].offset + b];
        memcpy((char *)ret_resources + fields[i].field, &value, sizeof(value));
    }
}

void grid_resources_pack(const struct grid_resources *resources, uint8_t ret_packed[32])
{
    for (size_t i = 0; i < FIELDS; i++) {
        uint64_t value;
        memcpy(&value, (const char *)resources + fields[i].field, sizeof(value));
        for (size_t b = fields[i].size; b-- > 0; value >>= 8)
            ret_packed[fields[i].offset + b] = (uint8_t)value;
    }
}
