// The relay's journal: it reads whole or not at all, and what it holds is written and reads again.
// sources: core0/relay/journal.c
// packages: yyjson mbedtls secp256k1
#include "files.h"
#include "lib/crypto/text.h"
#include "relay/relay.h"

void relay_step(struct relay *relay, enum relay_step step)
{
    (void)relay;
    (void)step;
}

static size_t open_once(const char *path, bool *ret_read, struct error *err)
{
    struct relay relay = {.chain = {.chain_id = 31337}, .journal = -1};

    /* Those of the test vectors, whose signatures are right. */
    if (hex_decode("5fbdb2315678afecb367f032d93f642f64180aa3", relay.chain.registry, 20) < 0 ||
        hex_decode("e7f1725e7734ce288f8367e1bb143e90bb3f0512", relay.chain.reservations, 20) < 0)
        abort();

    *ret_read = journal_open(&relay, path, err) == 0;
    size_t count = relay.entry_count;
    while (relay.entries != NULL)
        relay_remove_entry(&relay, relay.entries);
    if (relay.journal >= 0)
        close(relay.journal);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    bool read;
    const char *path = files_write("journal", data, size);
    size_t count = open_once(path, &read, &err), again;

    if (!read) {
        if (!error_is_set(&err))
            abort();
        return 0;
    }
    again = open_once(path, &read, &err);
    if (!read || again != count)
        abort();
    return 0;
}
