/*
 * media_efi.c - finds the command line in a unified kernel image; see media.h.
 *
 * PE/COFF: the file begins with an MS-DOS header whose field at 0x3c names the offset of "PE\0\0", a COFF header of 20
 * bytes, an optional header, and a table of sections of 40 bytes each.
 */
#include <errno.h>
#include <string.h>

#include "cli/media.h"

#define COFF_SIZE 20u
#define SECTION_SIZE 40u
#define SECTIONS_MAX 96u /* what the loader of Windows takes; ours has about 10 */

static uint32_t le32(const uint8_t *data)
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
           (uint32_t)data[3] << 24;
}

static uint32_t le16(const uint8_t *data)
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8;
}

int media_efi_find(const void *data, size_t len, size_t *ret_offset, size_t *ret_room)
{
    const uint8_t *bytes = data;

    if (len < 0x40 || memcmp(bytes, "MZ", 2) != 0) {
        return -EBADMSG;
    }
    size_t pe = le32(bytes + 0x3c);
    if (pe > len || len - pe < 4 + COFF_SIZE || memcmp(bytes + pe, "PE\0\0", 4) != 0) {
        return -EBADMSG;
    }
    size_t count = le16(bytes + pe + 6), optional = le16(bytes + pe + 20);
    size_t table = pe + 4 + COFF_SIZE + optional;
    if (count > SECTIONS_MAX || table > len || len - table < count * SECTION_SIZE) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *section = bytes + table + i * SECTION_SIZE;
        if (memcmp(section, ".cmdline", 8) != 0) {
            continue;
        }
        size_t size = le32(section + 8), raw = le32(section + 16), offset = le32(section + 20);
        size_t room = size < raw ? size : raw; /* the stub reads what both have */
        if (offset > len || len - offset < room || room == 0) {
            return -EBADMSG;
        }
        *ret_offset = offset;
        *ret_room = room;
        return 0;
    }
    return -EBADMSG;
}
