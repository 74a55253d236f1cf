// Heads of requests: what is taken lies inside the input, and is cut nowhere else when more bytes follow.
#include <stdlib.h>
#include <string.h>

#include "lib/http/server.h"
#include "lib/http/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct http_head head;
    int r = http_head_parse(text, size, &head);
    if (r == 1) {
        if (head.size > size || head.method_len == 0 || head.path < text ||
            head.path + head.path_len > text + head.size)
            abort();
        for (size_t i = 0; i < head.header_count; i++) {
            if (head.headers[i].value + head.headers[i].value_len > text + head.size)
                abort();
        }
        /* the same head with the body cut off is the same head */
        struct http_head shorter;
        if (http_head_parse(text, head.size, &shorter) != 1 || shorter.size != head.size ||
            shorter.content_length != head.content_length)
            abort();
    }
    char url[512], origin[URL_ORIGIN_MAX];
    size_t len = size < sizeof(url) - 1 ? size : sizeof(url) - 1;
    memcpy(url, data, len);
    url[len] = '\0';
    if (url_origin(url, origin) == 0 && strchr(origin, '@') != NULL)
        abort(); /* a password must not reach a log */
    (void)url_is_loopback(url);
    return 0;
}
