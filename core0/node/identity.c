/*
 * identity.c - the identity on the pools.
 */
#include "identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/crypto/ecdsa.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/hpke.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/json.h"

#define FILE_MAX 65536
#define SHARE_SIZE                                                                                 \
    4096 /* a block of its own: smaller files lie among the file system's metadata, which is copied about */
#define CODE "node.identity-damaged"

enum found { FOUND_NOTHING, FOUND_DAMAGED, FOUND_IDENTITY };

struct pool {
    char folder[PATH_MAX - 64];
    char path[PATH_MAX];
    char name[64];
    enum found found;
    struct identity *identity; /* FOUND_IDENTITY */
};

struct pools {
    struct pool *list;
    size_t count;
};

#define TLS_KEY_LABEL "croft-tls-p256-v1"

/* SHA-256 of the SubjectPublicKeyInfo of the P-256 key that the seed gives. */
static void tls_key_hash(const uint8_t seed[32], uint8_t ret_hash[32])
{
    uint8_t scalar[32], der[256];
    mbedtls_pk_context pk;
    mbedtls_ecp_keypair *pair;
    ecdsa_key_derive(seed, TLS_KEY_LABEL, ECDSA_P256, scalar);
    mbedtls_pk_init(&pk);
    int r = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (r != 0)
        abort();
    pair = mbedtls_pk_ec(pk);
    if (mbedtls_ecp_read_key(MBEDTLS_ECP_DP_SECP256R1, pair, scalar, sizeof(scalar)) != 0 ||
        mbedtls_ecp_keypair_calc_public(pair, crypto_random_mbedtls, NULL) != 0 ||
        (r = mbedtls_pk_write_pubkey_der(&pk, der, sizeof(der))) <= 0)
        abort(); /* only a build of mbedTLS without the curve */
    sha256(der + sizeof(der) - r, (size_t)r, ret_hash); /* it writes from the end */
    mbedtls_pk_free(&pk);
    crypto_wipe(scalar, sizeof(scalar));
}

static void derive(struct identity *identity)
{
    ecdsa_key_derive(identity->seed, "croft-identity-secp256k1-v1", ECDSA_SECP256K1, identity->key);
    (void)ecdsa_address(identity->key, identity->address);
    tls_key_hash(identity->seed, identity->tls_key_hash);
}

void identity_tls_key(const struct identity *identity, uint8_t ret_key[32])
{
    ecdsa_key_derive(identity->seed, TLS_KEY_LABEL, ECDSA_P256, ret_key);
}

void identity_wipe(struct identity *identity)
{
    crypto_wipe(identity, sizeof(*identity));
}

/* ---- the file ---- */

static void share_path(const char *folder, uint32_t epoch, char *ret_path, size_t size)
{
    snprintf(ret_path, size, "%s/epoch-%u.share", folder, epoch);
}

static int read_share(const char *folder, uint32_t epoch, uint8_t ret_share[32])
{
    char path[PATH_MAX];
    char *data = NULL;
    size_t len = 0;
    share_path(folder, epoch, path, sizeof(path));
    int r = file_read(path, SHARE_SIZE, &data, &len);
    if (r < 0)
        return r;
    if (len == SHARE_SIZE)
        memcpy(ret_share, data, 32);
    crypto_wipe(data, len);
    free(data);
    return len == SHARE_SIZE ? 0 : -EBADMSG;
}

static void xor_shares(const uint8_t a[32], const uint8_t b[32], uint8_t ret_key[32])
{
    for (size_t i = 0; i < 32; i++)
        ret_key[i] = a[i] ^ b[i];
}

/* 0; -ENOKEY: its other share is not there; -EBADMSG. Files from before there were shares have the key as it is. */
static int read_key(yyjson_val *value, const char *folder, struct sealing_key *key, uint32_t after)
{
    struct {
        uint64_t epoch;
        int64_t created;
        const char *private_key, *share, *public_key;
    } in = {0};
    static const struct json_field fields[] = {
        {"epoch", JSON_UINT, offsetof(__typeof__(in), epoch), true, 1, UINT32_MAX},
        {"created", JSON_INT, offsetof(__typeof__(in), created), true, 0, 0},
        {"private", JSON_STRING, offsetof(__typeof__(in), private_key), false, 0, 64},
        {"share", JSON_STRING, offsetof(__typeof__(in), share), false, 0, 64},
        {"public", JSON_STRING, offsetof(__typeof__(in), public_key), false, 0, 64},
    };
    uint8_t share[32], public_key[32];
    if (json_read(value, fields, 5, JSON_IGNORE_UNKNOWN, &in, CODE, NULL) < 0 || in.epoch <= after)
        return -EBADMSG;
    key->epoch = (uint32_t)in.epoch;
    key->created = in.created;
    if (in.private_key != NULL) {
        crypto_random(key->share, sizeof(key->share));
        return hex_decode(in.private_key, key->private_key, 32) < 0 ||
                       x25519_public(key->private_key, key->public_key) < 0
                   ? -EBADMSG
                   : 0;
    }
    if (in.share == NULL || in.public_key == NULL || hex_decode(in.share, share, 32) < 0 ||
        hex_decode(in.public_key, public_key, 32) < 0)
        return -EBADMSG;
    int r = read_share(folder, key->epoch, key->share);
    if (r == 0) {
        xor_shares(share, key->share, key->private_key);
        /* A share that was half overwritten gives another key. */
        if (x25519_public(key->private_key, key->public_key) < 0 ||
            memcmp(key->public_key, public_key, 32) != 0)
            r = -EBADMSG;
    }
    if (r < 0)
        crypto_wipe(key->private_key, sizeof(key->private_key));
    crypto_wipe(share, sizeof(share));
    return r < 0 ? -ENOKEY : 0;
}

static int read_identity(const char *text, size_t len, const char *folder,
                         struct identity *identity)
{
    struct {
        uint64_t version, generation;
        const char *protection, *address, *seed;
        yyjson_val *keys;
    } in = {0};
    static const struct json_field fields[] = {
        {"version", JSON_UINT, offsetof(__typeof__(in), version), true, 1, 1},
        {"generation", JSON_UINT, offsetof(__typeof__(in), generation), true, 0, 0},
        {"protection", JSON_STRING, offsetof(__typeof__(in), protection), true, 0, 16},
        {"address", JSON_STRING, offsetof(__typeof__(in), address), true, 0, 42},
        {"seed", JSON_STRING, offsetof(__typeof__(in), seed), true, 0, 64},
        {"keys", JSON_ARRAY, offsetof(__typeof__(in), keys), true, 0, IDENTITY_KEYS_MAX},
    };
    uint8_t address[20];
    size_t index, max;
    yyjson_val *item;
    uint32_t last = 0;
    yyjson_doc *doc = json_parse(text, len, FILE_MAX, CODE, NULL);
    int r = doc == NULL ? -EBADMSG
                        : json_read(yyjson_doc_get_root(doc), fields, 6, JSON_IGNORE_UNKNOWN, &in,
                                    CODE, NULL);
    /* "none": the seed as it is. A TPM's protection adds a word here and opens the seed with the TPM. */
    if (r >= 0 &&
        (strcmp(in.protection, "none") != 0 || hex_decode(in.seed, identity->seed, 32) < 0 ||
         eth_address_parse(in.address, address) < 0))
        r = -EBADMSG;
    if (r >= 0) {
        identity->generation = in.generation;
        yyjson_arr_foreach(in.keys, index, max, item)
        {
            struct sealing_key *key = &identity->keys[identity->key_count];
            r = read_key(item, folder, key, last);
            if (r == -EBADMSG)
                break;
            last = key->epoch;
            identity->key_count +=
                r == 0; /* a key without its share is destroyed, or on another pool */
            r = 0;
        }
    }
    yyjson_doc_free(doc);
    if (r < 0)
        return -EBADMSG;
    derive(identity);
    return memcmp(identity->address, address, 20) == 0 && identity->key_count > 0 ? 0 : -EBADMSG;
}

static int write_identity(const struct identity *identity, struct buffer *out)
{
    char seed[65], address[ETH_ADDRESS_TEXT], text[65], public_key[65];
    uint8_t share[32];
    hex_encode(identity->seed, 32, seed);
    eth_address_format(identity->address, address);
    int r = buffer_printf(
        out,
        "{\"version\":1,\"protection\":\"none\",\"address\":\"%s\",\"generation\":%llu,"
        "\"seed\":\"%s\",\"keys\":[",
        address, (unsigned long long)identity->generation, seed);
    for (size_t i = 0; i < identity->key_count && r >= 0; i++) {
        const struct sealing_key *key = &identity->keys[i];
        xor_shares(key->private_key, key->share, share);
        hex_encode(share, 32, text);
        hex_encode(key->public_key, 32, public_key);
        r = buffer_printf(out,
                          "%s{\"epoch\":%u,\"created\":%lld,\"share\":\"%s\",\"public\":\"%s\"}",
                          i > 0 ? "," : "", key->epoch, (long long)key->created, text, public_key);
    }
    if (r >= 0)
        r = buffer_append_str(out, "]}\n");
    crypto_wipe(seed, sizeof(seed));
    crypto_wipe(text, sizeof(text));
    crypto_wipe(share, sizeof(share));
    return r < 0 ? r : 0;
}

/* ---- the other shares ---- */

static int sync_folder(const char *folder)
{
    cleanup_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* In place: the blocks that hold a share are the ones that are overwritten later. */
static int put_share(const char *path, const uint8_t *share)
{
    uint8_t block[SHARE_SIZE] = {0};
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (share != NULL)
        memcpy(block, share, 32);
    int r = file_write_all(fd, block, sizeof(block));
    crypto_wipe(block, sizeof(block));
    return r == 0 && fdatasync(fd) < 0 ? -errno : r;
}

static int write_shares(const char *folder, const struct identity *identity)
{
    char path[PATH_MAX];
    uint8_t there[32];
    int r = 0;
    for (size_t i = 0; i < identity->key_count && r == 0; i++) {
        const struct sealing_key *key = &identity->keys[i];
        if (read_share(folder, key->epoch, there) == 0 && memcmp(there, key->share, 32) == 0)
            continue;
        share_path(folder, key->epoch, path, sizeof(path));
        r = put_share(path, key->share);
    }
    crypto_wipe(there, sizeof(there));
    return r == 0 ? sync_folder(folder) : r;
}

/* Overwrites and removes the shares of epochs that the identity does not have: keys that are not needed any more, and what a
 * rotation or a destruction that was cut off left. */
static int destroy_shares(const char *folder, const struct identity *identity)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    bool any = false;
    int r = 0;
    if (dir == NULL)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        unsigned epoch;
        int end = 0;
        if (sscanf(entry->d_name, "epoch-%u.share%n", &epoch, &end) != 1 || end == 0 ||
            entry->d_name[end] != '\0' || identity_key(identity, epoch) != NULL)
            continue;
        share_path(folder, epoch, path, sizeof(path));
        int one = put_share(path, NULL);
        if (one == 0 && unlink(path) < 0)
            one = -errno;
        any = true;
        r = one < 0 ? one : r;
    }
    closedir(dir);
    return any && r == 0 ? sync_folder(folder) : r;
}

/* ---- the pools ---- */

static void pools_done(struct pools *pools)
{
    for (size_t i = 0; i < pools->count; i++) {
        if (pools->list[i].identity != NULL)
            identity_wipe(pools->list[i].identity);
        free(pools->list[i].identity);
    }
    free(pools->list);
}

static void look(struct pool *pool)
{
    char *text = NULL;
    size_t len = 0;
    int r = file_read(pool->path, FILE_MAX, &text, &len);
    if (r == -ENOENT)
        return;
    pool->found = FOUND_DAMAGED;
    pool->identity = calloc(1, sizeof(*pool->identity));
    if (r >= 0 && pool->identity != NULL &&
        read_identity(text, len, pool->folder, pool->identity) == 0)
        pool->found = FOUND_IDENTITY;
    if (text != NULL)
        crypto_wipe(text, len);
    free(text);
}

static int scan(const char *folder, struct pools *ret_pools)
{
    struct pools pools = {.count = 0};
    DIR *dir = opendir(folder);
    struct dirent *entry;
    if (dir == NULL)
        return -errno;
    pools.list = calloc(IDENTITY_POOLS_MAX, sizeof(*pools.list));
    if (pools.list == NULL) {
        closedir(dir);
        return -ENOMEM;
    }
    while ((entry = readdir(dir)) != NULL && pools.count < IDENTITY_POOLS_MAX) {
        struct pool *pool = &pools.list[pools.count];
        struct stat info;
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= sizeof(pool->name))
            continue;
        snprintf(pool->folder, sizeof(pool->folder), "%s/%s/identity", folder, entry->d_name);
        if (stat(pool->folder, &info) < 0 || !S_ISDIR(info.st_mode))
            continue;
        snprintf(pool->path, sizeof(pool->path), "%s/identity.json", pool->folder);
        memcpy(pool->name, entry->d_name, strlen(entry->d_name) + 1);
        look(pool);
        pools.count++;
    }
    closedir(dir);
    *ret_pools = pools;
    return 0;
}

static bool same(const struct pool *a, const struct pool *b)
{
    return a->found == FOUND_IDENTITY && b->found == FOUND_IDENTITY &&
           memcmp(a->identity->address, b->identity->address, 20) == 0;
}

/* The newest copy of the address that is on most pools. NULL: none, or a tie (*ret_tie). */
static struct pool *choose(struct pools *pools, bool *ret_tie)
{
    struct pool *best = NULL;
    size_t best_votes = 0;
    *ret_tie = false;
    for (size_t i = 0; i < pools->count; i++) {
        struct pool *pool = &pools->list[i];
        size_t votes = 0;
        if (pool->found != FOUND_IDENTITY)
            continue;
        for (size_t j = 0; j < pools->count; j++)
            votes += same(pool, &pools->list[j]);
        if (best != NULL && same(best, pool)) {
            if (pool->identity->generation > best->identity->generation)
                best = pool;
        } else if (votes > best_votes) {
            best = pool;
            best_votes = votes;
            *ret_tie = false;
        } else if (votes == best_votes) {
            *ret_tie = true;
        }
    }
    return *ret_tie ? NULL : best;
}

static void name_foreign(const struct pools *pools, const struct pool *chosen, char *text,
                         size_t size)
{
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < pools->count; i++) {
        const struct pool *pool = &pools->list[i];
        if (pool->found == FOUND_NOTHING || (chosen != NULL && same(pool, chosen)) ||
            len > size - 80)
            continue;
        len += (size_t)snprintf(text + len, size - len, "%s%s", len > 0 ? " " : "", pool->name);
    }
}

static int save(struct pools *pools, const struct identity *identity, struct error *err)
{
    struct buffer text;
    size_t written = 0;
    int last = -ENOENT;
    buffer_init(&text, FILE_MAX);
    int r = write_identity(identity, &text);
    for (size_t i = 0; r >= 0 && i < pools->count; i++) {
        struct pool *pool = &pools->list[i];
        if (pool->found == FOUND_DAMAGED ||
            (pool->found == FOUND_IDENTITY &&
             memcmp(pool->identity->address, identity->address, 20) != 0))
            continue;
        /* Never a key in the list without its share; a share that is in no list any more goes last. */
        last = write_shares(pool->folder, identity);
        if (last == 0)
            last = file_write_atomic(pool->path, text.data, text.len, 0600);
        written += last == 0;
        if (last == 0 && (last = destroy_shares(pool->folder, identity)) < 0)
            r = last;
    }
    if (text.data != NULL)
        crypto_wipe(text.data, text.len);
    buffer_done(&text);
    if (r < 0 || written == 0)
        return error_set(err, EIO, "node.no-pool", "look at the node's disks",
                         written == 0 ? "the identity cannot be written to any pool: %s"
                                      : "the share of an old key cannot be overwritten: %s",
                         strerror(r < 0 ? -r : -last));
    return 0;
}

/* Keys whose share was lost on this pool and is there on another one that is as new. */
static bool borrow_keys(const struct pools *pools, const struct pool *chosen,
                        struct identity *identity)
{
    bool any = false;
    for (size_t i = 0; i < pools->count; i++) {
        const struct pool *pool = &pools->list[i];
        if (pool == chosen || !same(pool, chosen) ||
            pool->identity->generation != identity->generation)
            continue;
        for (size_t k = 0; k < pool->identity->key_count; k++) {
            const struct sealing_key *key = &pool->identity->keys[k];
            size_t at = 0;
            if (identity_key(identity, key->epoch) != NULL ||
                identity->key_count == IDENTITY_KEYS_MAX)
                continue;
            while (at < identity->key_count && identity->keys[at].epoch < key->epoch)
                at++;
            memmove(&identity->keys[at + 1], &identity->keys[at],
                    (identity->key_count - at) * sizeof(identity->keys[0]));
            identity->keys[at] = *key;
            identity->key_count++;
            any = true;
        }
    }
    return any;
}

int identity_save(const char *folder, struct identity *identity, struct error *err)
{
    struct pools pools = {.count = 0};
    int r = scan(folder, &pools);
    if (r < 0)
        return error_set(err, -r, "node.no-pool", "", "%s: %s", folder, strerror(-r));
    identity->generation++;
    r = save(&pools, identity, err);
    pools_done(&pools);
    return r;
}

static void make(struct identity *identity, int64_t now)
{
    struct sealing_key *key = &identity->keys[0];
    crypto_random(identity->seed, sizeof(identity->seed));
    x25519_generate(key->private_key, key->public_key);
    crypto_random(key->share, sizeof(key->share));
    key->epoch = 1;
    key->created = now;
    identity->key_count = 1;
    identity->generation = 1;
    derive(identity);
}

/* Whether every pool of the identity has exactly the shares that it is to have: a rotation or a destruction may have been cut off,
 * and files from before there were shares have none. */
static bool shares_are_whole(const struct pools *pools, const struct identity *identity)
{
    uint8_t there[32];
    bool whole = true;
    for (size_t i = 0; i < pools->count && whole; i++) {
        const struct pool *pool = &pools->list[i];
        size_t files = 0;
        struct dirent *entry;
        if (pool->found != FOUND_IDENTITY ||
            memcmp(pool->identity->address, identity->address, 20) != 0)
            continue;
        for (size_t k = 0; k < identity->key_count; k++)
            whole &= read_share(pool->folder, identity->keys[k].epoch, there) == 0 &&
                     memcmp(there, identity->keys[k].share, 32) == 0;
        DIR *dir = opendir(pool->folder);
        while (dir != NULL && (entry = readdir(dir)) != NULL)
            files += strncmp(entry->d_name, "epoch-", 6) == 0;
        if (dir != NULL)
            closedir(dir);
        whole &= files == identity->key_count;
    }
    crypto_wipe(there, sizeof(there));
    return whole;
}

int identity_open(const char *folder, int64_t now, struct identity *ret_identity, struct error *err)
{
    struct pools pools = {.count = 0};
    bool tie, refresh = false, damaged = false;
    int r = scan(folder, &pools);
    if (r == 0 && pools.count == 0) {
        pools_done(&pools);
        r = -ENOENT;
    }
    if (r < 0)
        return error_set(err, -r, "node.no-pool", "look at the node's disks",
                         "no pool can hold the identity: %s", strerror(-r));
    struct pool *chosen = choose(&pools, &tie);
    for (size_t i = 0; i < pools.count; i++) {
        const struct pool *pool = &pools.list[i];
        damaged |= pool->found == FOUND_DAMAGED;
        if (chosen != NULL && same(pool, chosen))
            (void)file_remove_leftovers(pool->folder); /* secrets of a write that was cut short */
        if (chosen != NULL &&
            (pool->found == FOUND_NOTHING ||
             (same(pool, chosen) && pool->identity->generation < chosen->identity->generation)))
            refresh = true;
    }
    struct identity *identity = calloc(1, sizeof(*identity));
    if (identity == NULL)
        r = error_set(err, ENOMEM, "node.no-memory", "", "no memory for the identity");
    else if (tie)
        r = error_set(err, EEXIST, "node.identity-conflict",
                      "take out the disks of the other machine",
                      "as many pools hold one identity as another");
    else if (chosen == NULL && damaged)
        r = error_set(err, EBADMSG, CODE,
                      "let the farmer approve a new identity after wiping the pool",
                      "the identity on the pools does not read");
    else if (chosen != NULL) {
        *identity = *chosen->identity;
        refresh |= borrow_keys(&pools, chosen, identity);
        if (refresh || !shares_are_whole(&pools, identity))
            r = save(&pools, identity, err);
    } else {
        make(identity, now);
        r = save(&pools, identity, err);
    }
    if (r >= 0) {
        name_foreign(&pools, chosen, identity->foreign, sizeof(identity->foreign));
        *ret_identity = *identity;
    }
    if (identity != NULL)
        identity_wipe(identity);
    free(identity);
    pools_done(&pools);
    return r < 0 ? r : 0;
}

int identity_rotate(const char *folder, struct identity *identity, uint32_t epoch, int64_t now,
                    struct error *err)
{
    if (identity->key_count ==
        IDENTITY_KEYS_MAX) { /* the oldest gives way: nothing runs for ten years */
        memmove(identity->keys, identity->keys + 1,
                (IDENTITY_KEYS_MAX - 1) * sizeof(identity->keys[0]));
        identity->key_count--;
    }
    struct sealing_key *key = &identity->keys[identity->key_count++];
    x25519_generate(key->private_key, key->public_key);
    crypto_random(key->share, sizeof(key->share));
    key->epoch = epoch;
    key->created = now;
    int r = identity_save(folder, identity, err);
    if (r < 0) {
        crypto_wipe(key, sizeof(*key));
        identity->key_count--;
    }
    return r;
}

int identity_forget(const char *folder, struct identity *identity,
                    bool (*needed)(const struct sealing_key *key, const void *data),
                    const void *data, struct error *err)
{
    size_t kept = 0, before = identity->key_count;
    for (size_t i = 0; i < before; i++) {
        if (i + 1 == before || needed(&identity->keys[i], data))
            identity->keys[kept++] = identity->keys[i];
    }
    if (kept == before)
        return 0;
    crypto_wipe(&identity->keys[kept], (before - kept) * sizeof(identity->keys[0]));
    identity->key_count = kept;
    int r = identity_save(folder, identity, err);
    return r < 0 ? r : (int)(before - kept);
}

bool identity_due(const struct identity *identity, int64_t now)
{
    return now - identity_current(identity)->created >= IDENTITY_KEY_LIFE;
}

const struct sealing_key *identity_key(const struct identity *identity, uint32_t epoch)
{
    for (size_t i = 0; i < identity->key_count; i++) {
        if (identity->keys[i].epoch == epoch)
            return &identity->keys[i];
    }
    return NULL;
}

const struct sealing_key *identity_current(const struct identity *identity)
{
    return &identity->keys[identity->key_count - 1];
}
