// The farmer that provd kept on its disk, which may come back with anything on it.
// sources: core0/provision/store.c core0/provision/ledger.c core0/provision/ledger_json.c
// packages: mbedtls
#include "files.h"
#include "provision/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_farmer farmer = {.farm = 7}, again;
    struct store store = {0};
    struct error err = {0};

    files_write("farmer.json", data, size);
    store.dir = strdup(files_path(""));
    if (store.dir == NULL)
        abort();
    if (store_load_farmer(&store, &farmer, &err) < 0) {
        if (!error_is_set(&err) || farmer.farm != 7)
            abort();
    } else if (store_save_farmer(&store, &farmer, &err) < 0 ||
               store_load_farmer(&store, &again, &err) < 0 || again.chain_id != farmer.chain_id ||
               again.farm != farmer.farm || memcmp(again.registry, farmer.registry, 20) != 0 ||
               strcmp(again.trust, farmer.trust) != 0 ||
               memcmp(again.farmer, farmer.farmer, 20) != 0) {
        abort();
    }
    free(store.dir);
    return 0;
}
