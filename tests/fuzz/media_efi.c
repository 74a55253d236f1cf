// The search for the command line in an EFI program.
// sources: core0/cli/media_efi.c
#include <stdint.h>
#include <stdlib.h>

#include "cli/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t offset, room;
    if (media_efi_find(data, size, &offset, &room) == 0 && (offset > size || size - offset < room))
        abort();
    return 0;
}
