// noded's queue as it lies on a disk: what reads is written and reads again the same.
// sources: core0/node/queue.c
// packages: yyjson mbedtls secp256k1
#include "node/queue.h"
#include "files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct queue queue, again;
    static const uint8_t boot_id[32] = {1}, registry[20] = {2};
    struct error err = {0};
    const char *path = files_write("queue.json", data, size);

    if (queue_open(&queue, path, boot_id, 31337, registry, &err) < 0) {
        if (!error_is_set(&err))
            abort();
        return 0;
    }
    queue.path = path;
    if (queue_write(&queue, &err) < 0 ||
        queue_open(&again, path, boot_id, 31337, registry, &err) < 0 ||
        again.count != queue.count || again.done_count != queue.done_count ||
        again.reached != queue.reached)
        abort();
    return 0;
}
