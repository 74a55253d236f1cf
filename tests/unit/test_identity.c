// sources: core0/node/identity.c
// packages: yyjson mbedtls secp256k1
// The identity on several folders that stand for pools: who wins, what is foreign, and what is left of a key that was destroyed.
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/crypto/text.h"
#include "lib/file.h"
#include "node/identity.h"

#define NOW 1800000000

static char pools[64];
static struct identity identity, again;
static struct error err;

static char *at(const char *pool, const char *file)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s/identity%s%s", pools, pool,
                   file[0] != '\0' ? "/" : "", file);
    return path;
}

static void add_pool(const char *pool)
{
    assert_int_equal(file_mkdirs(at(pool, ""), 0700), 0);
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(pools, sizeof(pools), "/tmp/croft-identity-XXXXXX");
    assert_non_null(mkdtemp(pools));
    error_clear(&err);
    add_pool("a");
    add_pool("b");
    assert_int_equal(identity_open(pools, NOW, &identity, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(file_remove_tree(pools), 0);
    return 0;
}

/* Whether any file of any pool holds these bytes, as they are or in hex. */
static bool anywhere(const uint8_t *bytes)
{
    static const char *const names[] = {"a", "b", "c"};
    char hex[65];
    bool found = false;
    hex_encode(bytes, 32, hex);
    for (size_t i = 0; i < 3; i++) {
        char folder[512];
        struct dirent *entry;
        (void)snprintf(folder, sizeof(folder), "%s", at(names[i], ""));
        DIR *dir = opendir(folder);
        while (dir != NULL && (entry = readdir(dir)) != NULL) {
            char *data;
            size_t len;
            if (entry->d_name[0] == '.' ||
                file_read(at(names[i], entry->d_name), 65536, &data, &len) < 0)
                continue;
            found |= memmem(data, len, bytes, 32) != NULL || memmem(data, len, hex, 64) != NULL;
            free(data);
        }
        if (dir != NULL)
            closedir(dir);
    }
    return found;
}

static bool wants_epoch(const struct sealing_key *key, const void *data)
{
    return key->epoch == *(const uint32_t *)data;
}

static void rotate(uint32_t epoch)
{
    assert_int_equal(identity_rotate(pools, &identity, epoch, NOW, &err), 0);
}

static void test_a_key_lies_in_two_shares(void **state)
{
    (void)state;
    rotate(2);
    for (size_t i = 0; i < identity.key_count; i++) {
        assert_false(anywhere(identity.keys[i].private_key));
        assert_true(anywhere(identity.keys[i].share));
    }
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 2);
    assert_memory_equal(again.keys[0].private_key, identity.keys[0].private_key, 32);
    assert_memory_equal(again.keys[1].private_key, identity.keys[1].private_key, 32);
    assert_memory_equal(again.seed, identity.seed, 32);
}

static void test_what_is_destroyed_is_nowhere(void **state)
{
    (void)state;
    uint32_t wanted = 2;
    uint8_t shares[4][32];
    for (uint32_t epoch = 2; epoch <= 4; epoch++)
        rotate(epoch);
    for (size_t i = 0; i < 4; i++)
        memcpy(shares[i], identity.keys[i].share, 32);
    /* 1 and 3 go; 2 is needed, 4 is the current one whatever is said. */
    assert_int_equal(identity_forget(pools, &identity, wants_epoch, &wanted, &err), 2);
    assert_int_equal(identity.key_count, 2);
    assert_int_equal(identity_current(&identity)->epoch, 4);
    assert_null(identity_key(&identity, 1));
    assert_non_null(identity_key(&identity, 2));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(anywhere(shares[i]), i == 1 || i == 3);
    assert_int_equal(identity_forget(pools, &identity, wants_epoch, &wanted, &err), 0);
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 2);
}

/* The bytes of the share's own file are overwritten where they lie, not replaced by another file. */
static void test_a_share_is_overwritten_in_place(void **state)
{
    (void)state;
    uint32_t none = 0;
    char kept[256], *data;
    size_t len;
    rotate(2);
    (void)snprintf(kept, sizeof(kept), "%s/kept", pools);
    assert_int_equal(link(at("a", "epoch-1.share"), kept), 0);
    assert_int_equal(identity_forget(pools, &identity, wants_epoch, &none, &err), 1);
    assert_int_equal(file_read(kept, 65536, &data, &len), 0);
    assert_int_equal(len, 4096);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(data[i], 0);
    free(data);
    assert_int_equal(access(at("a", "epoch-1.share"), F_OK), -1);
    assert_int_equal(unlink(kept), 0);
}

/* Cut off between the list and the shares, or while a share was overwritten: the next start completes it. */
static void test_a_destruction_that_was_cut_off(void **state)
{
    (void)state;
    uint32_t none = 0;
    char *share;
    size_t len;
    uint8_t first[32];
    rotate(2);
    memcpy(first, identity.keys[0].share, 32);
    assert_int_equal(file_read(at("a", "epoch-1.share"), 65536, &share, &len), 0);
    assert_int_equal(identity_forget(pools, &identity, wants_epoch, &none, &err), 1);
    assert_int_equal(file_write_atomic(at("a", "epoch-1.share"), share, len, 0600), 0);
    free(share);
    assert_true(anywhere(first));
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 1);
    assert_false(anywhere(first));
    /* Half overwritten while still listed: that key is gone, the others stay. */
    rotate(3);
    assert_int_equal(truncate(at("a", "epoch-2.share"), 100), 0);
    assert_int_equal(truncate(at("b", "epoch-2.share"), 0), 0);
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 1);
    assert_int_equal(identity_current(&again)->epoch, 3);
    assert_int_equal(access(at("a", "epoch-2.share"), F_OK), -1);
}

static void test_a_share_lost_on_one_pool_is_taken_from_another(void **state)
{
    (void)state;
    rotate(2);
    assert_int_equal(unlink(at("a", "epoch-1.share")), 0);
    assert_int_equal(unlink(at("b", "epoch-2.share")), 0);
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 2);
    assert_memory_equal(again.keys, identity.keys, 2 * sizeof(identity.keys[0]));
    assert_int_equal(access(at("a", "epoch-1.share"), F_OK), 0);
    assert_int_equal(access(at("b", "epoch-2.share"), F_OK), 0);
}

/* A disk that was away while keys were made and destroyed gets the new ones and loses the old ones. */
static void test_a_disk_that_was_away_is_brought_up_to_date(void **state)
{
    (void)state;
    uint32_t none = 0;
    uint8_t first[32];
    char away[256];
    memcpy(first, identity.keys[0].share, 32);
    (void)snprintf(away, sizeof(away), "%s-away", pools);
    char inside[256];
    (void)snprintf(inside, sizeof(inside), "%s/b", pools);
    assert_int_equal(rename(inside, away), 0);
    rotate(2);
    assert_int_equal(identity_forget(pools, &identity, wants_epoch, &none, &err), 1);
    assert_int_equal(rename(away, inside), 0);
    assert_true(anywhere(first));
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_int_equal(again.key_count, 1);
    assert_int_equal(again.keys[0].epoch, 2);
    assert_memory_equal(again.address, identity.address, 20);
    assert_false(anywhere(first));
    assert_int_equal(again.foreign[0], '\0');
}

static void test_pools_of_another_node_are_left_alone(void **state)
{
    (void)state;
    char first[64], *before, *after;
    size_t len, len2;
    memcpy(first, pools, sizeof(first));
    (void)setup(NULL); /* another node */
    char theirs[256], mine[256];
    (void)snprintf(theirs, sizeof(theirs), "%s/a", pools);
    (void)snprintf(mine, sizeof(mine), "%s/c", first);
    assert_int_equal(rename(theirs, mine), 0);
    assert_int_equal(file_remove_tree(pools), 0);
    memcpy(pools, first, sizeof(pools));
    assert_int_equal(file_read(at("c", "identity.json"), 65536, &before, &len), 0);
    assert_int_equal(identity_open(pools, NOW, &identity, &err), 0);
    assert_string_equal(identity.foreign, "c");
    rotate(2);
    assert_int_equal(file_read(at("c", "identity.json"), 65536, &after, &len2), 0);
    assert_int_equal(len, len2);
    assert_memory_equal(before, after, len);
    assert_int_equal(access(at("c", "epoch-2.share"), F_OK), -1);
    /* One against one is no majority. */
    (void)snprintf(theirs, sizeof(theirs), "%s/b", pools);
    assert_int_equal(file_remove_tree(theirs), 0);
    assert_true(identity_open(pools, NOW, &again, &err) < 0);
    assert_string_equal(err.code, "node.identity-conflict");
    free(before);
    free(after);
}

static void test_a_file_from_before_there_were_shares(void **state)
{
    (void)state;
    char key[65], seed[65], text[512], address[43];
    uint8_t private_key[32];
    uint32_t epoch = 1;
    memcpy(private_key, identity.keys[0].private_key, 32);
    hex_encode(private_key, 32, key);
    hex_encode(identity.seed, 32, seed);
    hex_encode_0x(identity.address, 20, address);
    int len =
        snprintf(text, sizeof(text),
                 "{\"version\":1,\"protection\":\"none\",\"address\":\"%s\",\"generation\":7,"
                 "\"seed\":\"%s\",\"keys\":[{\"epoch\":%u,\"created\":5,\"private\":\"%s\"}]}\n",
                 address, seed, epoch, key);
    for (const char *pool = "a"; *pool <= 'b'; pool = *pool == 'a' ? "b" : "c") {
        assert_int_equal(unlink(at(pool, "epoch-1.share")), 0);
        assert_int_equal(file_write_atomic(at(pool, "identity.json"), text, (size_t)len, 0600), 0);
    }
    assert_true(anywhere(private_key));
    assert_int_equal(identity_open(pools, NOW, &again, &err), 0);
    assert_memory_equal(again.keys[0].private_key, private_key, 32);
    assert_false(anywhere(private_key));
    assert_int_equal(identity_open(pools, NOW, &identity, &err), 0);
    assert_memory_equal(identity.keys[0].private_key, private_key, 32);
}

static void test_a_new_key_is_due_after_a_month(void **state)
{
    (void)state;
    assert_false(identity_due(&identity, NOW + 30 * 86400 - 1));
    assert_true(identity_due(&identity, NOW + 30 * 86400));
    rotate(2);
    identity.keys[1].created = NOW + 100;
    assert_false(identity_due(&identity, NOW + 30 * 86400));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_key_lies_in_two_shares),
        TEST(test_what_is_destroyed_is_nowhere),
        TEST(test_a_share_is_overwritten_in_place),
        TEST(test_a_destruction_that_was_cut_off),
        TEST(test_a_share_lost_on_one_pool_is_taken_from_another),
        TEST(test_a_disk_that_was_away_is_brought_up_to_date),
        TEST(test_pools_of_another_node_are_left_alone),
        TEST(test_a_file_from_before_there_were_shares),
        TEST(test_a_new_key_is_due_after_a_month),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
