// Messages of a subscription to new blocks. The first byte: whether the endpoint has answered the subscription already.
// packages: yyjson mbedtls curl
#include "../../core0/lib/eth/heads.c"

static void on_head(uint64_t number, const uint8_t hash[32], void *data)
{
    (void)number;
    *(uint8_t *)data = hash[31];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static struct eth_rpc *rpc;
    struct eth_heads *heads;
    uint8_t last = 0;

    if (loop == NULL) {
        const struct eth_rpc_options options = {.urls = "ws://127.0.0.1:9"};
        if (loop_new(&loop) < 0 || eth_rpc_new(loop, &options, &rpc, NULL) < 0)
            abort();
    }
    if (size == 0)
        return 0;
    if (eth_heads_new(loop, rpc, on_head, NULL, &last, &heads) < 0)
        abort();
    heads->state = data[0] & 1 ? SUBSCRIBED : CONNECTING;
    /* A poll is under way: nothing is asked of an endpoint that is not there. */
    heads->request = (struct eth_rpc_request *)-1;
    on_message(heads, (const char *)data + 1, size - 1);
    if (heads->known && heads->hash[31] != last)
        abort();
    heads->request = NULL;
    eth_heads_free(heads);
    return 0;
}
