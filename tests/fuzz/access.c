// What strangers send to a gate and gates to callers: the header Authorization, and a challenge as JSON.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/grid/access.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t nonce[GRID_ACCESS_NONCE_SIZE], signature[GRID_ACCESS_SIGNATURE], who[20];
    struct grid_challenge challenge, again;
    if (grid_access_header_parse((const char *)data, size, nonce, signature) == 0) {
        char value[GRID_ACCESS_HEADER_MAX];
        grid_access_header_format(nonce, signature, value);
        if (size != strlen(value) || strncasecmp(value, (const char *)data, size) != 0)
            abort();
        memset(&challenge, 0, sizeof(challenge));
        (void)grid_access_signer(&challenge, "logs", signature, who);
    }
    if (grid_challenge_from_json((const char *)data, size, &challenge, NULL) == 0) {
        struct buffer text;
        buffer_init(&text, 0);
        if (grid_challenge_to_json(&challenge, &text) < 0 ||
            grid_challenge_from_json((const char *)text.data, text.len, &again, NULL) < 0 ||
            again.node != challenge.node || again.reservation != challenge.reservation ||
            again.expires != challenge.expires || again.chain_id != challenge.chain_id ||
            memcmp(again.nonce, challenge.nonce, sizeof(again.nonce)) != 0 ||
            memcmp(again.reservations, challenge.reservations, sizeof(again.reservations)) != 0)
            abort();
        buffer_done(&text);
    }
    return 0;
}
