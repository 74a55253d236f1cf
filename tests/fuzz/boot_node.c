// noded's view of /run/croft/boot.json; the first byte says whether it is that, a join token or an image digest.
// sources: core0/node/boot.c
// packages: yyjson mbedtls secp256k1
#include "files.h"
#include "node/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boot boot;
    struct error err = {0};
    uint8_t key[32];
    int ret;

    if (size == 0)
        return 0;
    const char *path = files_write("boot.json", data + 1, size - 1);
    if (data[0] == 't')
        ret = boot_read_token(path, key, &err);
    else if (data[0] == 'i')
        ret = boot_read_image_digest(path, key, &err);
    else {
        ret = boot_read(path, &boot, &err);
        if (ret == 0)
            boot_done(&boot);
    }
    if (ret < 0 && !error_is_set(&err))
        abort();
    return 0;
}
