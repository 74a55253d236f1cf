// Requests of the key-value server: arguments lie inside what was understood, and where the bytes are cut does not matter.
// sources: core0/kv/resp.c
#include <stdlib.h>
#include <string.h>

#include "kv/resp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct resp_limits limits = {.argument = 4096, .request = 8192};

static void check(const struct resp_request *request, size_t size)
{
    size_t end = 0;

    if (request->position > size || request->argc > RESP_ARGS_MAX)
        abort();
    for (uint32_t i = 0; i < request->argc; i++) {
        const struct resp_argument *a = &request->argv[i];

        if (a->len > limits.argument || a->offset < end ||
            (size_t)a->offset + a->len > request->position)
            abort();
        end = (size_t)a->offset + a->len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resp_request whole, pieces;
    uint8_t *copy, *exact;
    int r, again = 0;

    if (size == 0 || size > 16384)
        return 0;
    copy = malloc(size);
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    resp_request_reset(&whole);
    r = resp_parse(copy, size, &limits, &whole);
    check(&whole, size);
    if (r < 0 && r < RESP_ERROR_QUOTES)
        abort();

    /* the same bytes, in growing pieces, each in memory of exactly that size */
    resp_request_reset(&pieces);
    for (size_t len = 1, step = 1; again == 0; len += step, step += len / 16) {
        if (len > size)
            len = size;
        exact = malloc(len);
        if (exact == NULL)
            abort();
        memcpy(exact, data, len);
        again = resp_parse(exact, len, &limits, &pieces);
        check(&pieces, len);
        if (again == 0 && pieces.need != 0 && pieces.need <= len)
            abort();
        if (again == 1 && r == 1) {
            for (uint32_t i = 0; i < pieces.argc && i < whole.argc; i++) {
                if (memcmp(exact + pieces.argv[i].offset, copy + whole.argv[i].offset,
                           pieces.argv[i].len) != 0)
                    abort();
            }
        }
        free(exact);
        if (len == size)
            break;
    }
    if (again != r)
        abort();
    if (r == 1 && (pieces.position != whole.position || pieces.argc != whole.argc ||
                   memcmp(pieces.argv, whole.argv, whole.argc * sizeof(whole.argv[0])) != 0))
        abort();
    free(copy);
    return 0;
}
