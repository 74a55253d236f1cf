// A message on the kernel's socket for device events.
// sources: core0/storage/uevent.c
#include <stdint.h>

#include "storage/uevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)uevent_is_disk((const char *)data, size);
    return 0;
}
