// A keystore file, with the password "password". Costs of more than a moment are passed over: they are refused by their
// limits, which the unit test holds them to.
// packages: yyjson mbedtls secp256k1 scrypt
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/keystore.h"
#include "lib/json.h"

static bool is_dear(yyjson_val *params)
{
    return yyjson_get_uint(yyjson_obj_get(params, "c")) > 100 ||
           yyjson_get_uint(yyjson_obj_get(params, "n")) > 64 ||
           yyjson_get_uint(yyjson_obj_get(params, "r")) > 8 ||
           yyjson_get_uint(yyjson_obj_get(params, "p")) > 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    uint8_t key[32];
    yyjson_doc *doc = json_parse((const char *)data, size, 16384, "key.bad-file", NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    bool dear = is_dear(yyjson_obj_get(yyjson_obj_get(root, "crypto"), "kdfparams")) ||
                is_dear(yyjson_obj_get(yyjson_obj_get(root, "Crypto"), "kdfparams"));

    yyjson_doc_free(doc);
    if (!dear && keystore_decrypt((const char *)data, size, "password", key, &err) < 0 &&
        !error_is_set(&err))
        abort();
    return 0;
}
