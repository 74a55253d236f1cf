// An image's configuration from a hub.
#include <stdint.h>
#include <stdlib.h>

#include "lib/image/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_config config;
    struct error err = {0};
    if (image_config_read((const char *)data, size, &config, &err) == 0)
        image_config_done(&config);
    return 0;
}
