// identity.json on two pools, parted by a NUL byte: one wins or neither does, and what was taken is found again.
// sources: core0/node/identity.c
// packages: yyjson mbedtls secp256k1
#include "node/identity.h"
#include "files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct identity identity, again;
    struct error err = {0}, later = {0};
    const uint8_t *nul = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t first = nul != NULL ? (size_t)(nul - data) : size;

    mkdir(files_path("pools"), 0700);
    mkdir(files_path("pools/a"), 0700);
    mkdir(files_path("pools/a/identity"), 0700);
    files_write("pools/a/identity/identity.json", data, first);
    if (nul != NULL) {
        mkdir(files_path("pools/b"), 0700);
        mkdir(files_path("pools/b/identity"), 0700);
        files_write("pools/b/identity/identity.json", nul + 1, size - first - 1);
    } else {
        unlink(files_path("pools/b/identity/identity.json"));
        rmdir(files_path("pools/b/identity"));
        rmdir(files_path("pools/b"));
    }
    if (identity_open(files_path("pools"), 1800000000, &identity, &err) < 0) {
        if (!error_is_set(&err))
            abort();
        return 0;
    }
    if (identity_current(&identity) == NULL ||
        identity_open(files_path("pools"), 1800000000, &again, &later) < 0 ||
        memcmp(identity.address, again.address, 20) != 0)
        abort();
    return 0;
}
