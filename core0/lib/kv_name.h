/*
 * kv_name.h - what a tenant's key-value namespace is called: to the node a key, to kvd a name that follows from it.
 *
 * The name is a hash of the key, so that namespaces of all tenants fit one server and no name says whose it is. Everybody
 * who knows tenant, project and name of a namespace can compute it; what keeps others out is the password.
 */
#pragma once

#include <stdint.h>

#define KV_NAME_LEN 35 /* "kv-" and 32 hex digits */
#define KV_KEY_SIZE 256

/* "kv/0x…/project/name" (docs/contracts.md). */
void kv_key(const uint8_t tenant[20], const char *project, const char *name,
            char ret_key[KV_KEY_SIZE]);
/* "kv-" and the first 16 bytes of SHA-256 over "croft key-value namespace\n" and the key. */
void kv_name(const char *key, char ret_name[KV_NAME_LEN + 1]);
