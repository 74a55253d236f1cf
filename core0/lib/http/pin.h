/*
 * pin.h - a peer that is known by its key alone; for the files of this folder only.
 */
#pragma once

#include <curl/curl.h>
#include <stdint.h>

/* The peer must show the key whose SubjectPublicKeyInfo has this SHA-256, by TLS 1.3. Names, dates and issuers of its certificate
 * mean nothing then, and no bundle of certificates is read. 0 or -ENOMEM. */
int curl_pin(CURL *easy, const uint8_t key_hash[32]);
