/*
 * pin.c - see pin.h.
 */
#include "lib/http/pin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/crypto/text.h"

int curl_pin(CURL *easy, const uint8_t key_hash[32])
{
    char pin[64];
    char *text = base64_encode(key_hash, 32);
    if (text == NULL)
        return -ENOMEM;
    snprintf(pin, sizeof(pin), "sha256//%s", text);
    free(text);
    /* First the pin: without it, a connection that checks nothing must not come about. */
    if (curl_easy_setopt(easy, CURLOPT_PINNEDPUBLICKEY, pin) != CURLE_OK)
        return -ENOMEM;
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    /* In a session that is taken up again (RFC 8446, section 2.2) the peer shows no certificate, so there is no key to compare. */
    curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    return 0;
}
