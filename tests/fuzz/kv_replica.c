// What a replica takes from its primary: elements of answers, until the bytes end.
// sources: core0/kv/replica_client.c core0/kv/resp.c core0/kv/address.c core0/kv/tls.c
// packages: mbedtls
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kv/replica_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int stop = -1;
    struct replica_client client = {.value_max = 4096};
    const uint8_t *bytes;
    int64_t number, count;
    uint64_t integer;
    uint8_t bulk[64];
    char type, text[32];
    size_t len;
    int pair[2], ret = 0;

    if (size > 65536)
        return 0;
    if (stop < 0)
        stop = eventfd(0, EFD_CLOEXEC);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0 ||
        transport_plain_new(pair[0], &client.transport) < 0)
        abort();
    client.fd = pair[0];
    client.stop_fd = stop;
    if (send(pair[1], data, size, MSG_NOSIGNAL) < 0 && size > 0)
        abort();
    close(pair[1]);
    for (unsigned step = 0; ret >= 0; step++) {
        switch (step % 5) {
        case 0:
            ret = replica_client_count(&client, 0, 100, &count);
            break;
        case 1:
            ret = replica_client_integer(&client, &integer);
            break;
        case 2:
            ret = replica_client_bulk(&client, bulk, sizeof(bulk), &len);
            break;
        case 3:
            ret = replica_client_head(&client, &type, &number);
            if (ret == 0 && type == '$' && number >= 0) {
                ret = replica_client_bytes(&client, (size_t)number, &bytes);
                for (int64_t i = 0; ret == 0 && i < number; i++)
                    bulk[i % 64] = bytes[i];
            }
            break;
        default:
            ret = replica_client_simple(&client, text, sizeof(text));
        }
    }
    replica_client_close(&client);
    return 0;
}
