// provd's view of /run/croft/boot.json: the chain, the contracts, how headers are believed.
// sources: core0/provision/config.c
// packages: yyjson
#include "files.h"
#include "provision/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    struct error err = {0};

    if (config_read(files_write("boot.json", data, size), &config, &err) == 0) {
        if (config.chain == NULL || config.chain_id == 0)
            abort();
        config_done(&config);
    } else if (!error_is_set(&err)) {
        abort();
    }
    return 0;
}
