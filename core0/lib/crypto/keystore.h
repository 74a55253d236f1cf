/*
 * keystore.h - Web3 Secret Storage, version 3: an encrypted private key in a JSON file (scrypt or PBKDF2, AES-128-CTR,
 * Keccak-256 as MAC), and the plain key file that CROFT_KEY_FILE names.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/buffer.h"
#include "lib/crypto/ecdsa.h"
#include "lib/error.h"

/* scrypt's memory (128 * n * r) that a keystore file may ask for: geth's standard needs 256 MiB. */
#define KEYSTORE_MEMORY_MAX ((uint64_t)512 << 20)

/* Errors: key.bad-file, key.wrong-password. */
int keystore_decrypt(const char *text, size_t len, const char *password,
                     uint8_t ret_key[ECDSA_KEY_SIZE], struct error *err);
/* log2_n: 18 is geth's standard (256 MiB, about a second), 12 its light one. Appends the JSON to out. */
int keystore_encrypt(const uint8_t key[ECDSA_KEY_SIZE], const char *password, unsigned log2_n,
                     struct buffer *out, struct error *err);
/* Reads a key file: hexadecimal (refused with key.bad-permissions unless readable by its owner only), or a
 * keystore, for which ask() is called to get the password (it returns malloc'ed text or NULL; ask NULL: key.no-password). */
int keystore_read_file(const char *path, char *(*ask)(void *data), void *data,
                       uint8_t ret_key[ECDSA_KEY_SIZE], struct error *err);
