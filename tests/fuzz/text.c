// Small texts from anywhere: hexadecimal, base64, quantities, addresses, URLs, reverts, names of key-value spaces. The first byte
// says which.
// packages: mbedtls
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/eth/rpc.h"
#include "lib/http/url.h"

static void read_address(const char *text)
{
    uint8_t address[ETH_ADDRESS_SIZE], again[ETH_ADDRESS_SIZE];
    char written[ETH_ADDRESS_TEXT];

    if (eth_address_parse(text, address) < 0)
        return;
    eth_address_format(address, written);
    if (eth_address_parse(written, again) < 0 || memcmp(address, again, sizeof(address)) != 0)
        abort();
}

static void read_hex(const char *text)
{
    uint8_t fixed[32];
    struct buffer out;

    (void)hex_decode(text, fixed, sizeof(fixed));
    buffer_init(&out, 4096);
    if (hex_decode_buffer(text, &out) == 0 && out.len > strlen(text) / 2)
        abort();
    buffer_done(&out);
}

static void read_base64(const char *text)
{
    uint8_t *decoded;
    size_t len;

    if (base64_decode(text, 1024, &decoded, &len) == 0) {
        if (len > 1024)
            abort();
        free(decoded);
    }
}

static void read_url(const char *text)
{
    char origin[URL_ORIGIN_MAX];

    if (url_origin(text, origin) == 0 && strlen(origin) > strlen(text))
        abort();
    (void)url_is_loopback(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    uint64_t number;

    if (size == 0)
        return 0;
    char *text = strndup((const char *)data + 1, size - 1);
    if (text == NULL)
        abort();
    switch (data[0]) {
    case 'a':
        read_address(text);
        break;
    case 'h':
        read_hex(text);
        break;
    case 'b':
        read_base64(text);
        break;
    case 'u':
        read_url(text);
        break;
    case 'q':
        (void)eth_quantity_parse(text, &number);
        break;
    default:
        if (eth_revert_decode(data + 1, size - 1, &err) < 0 && err.code[0] != '\0' &&
            strlen(err.code) > ERROR_CODE_MAX)
            abort();
    }
    free(text);
    return 0;
}
