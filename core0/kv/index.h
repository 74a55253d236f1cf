/*
 * index.h - the index of a namespace in user mode: from a key to where its record lies.
 *
 * Keys are kept in memory, so that a write, a deletion and an answer "no such key" need no disk.
 * Linear hashing over one array of 4-byte heads: the table grows by one bucket per new key, so no write
 * ever waits for a rehash. Entries lie in one arena, in units of 4 bytes:
 *     u32 next, u32 segment, u32 place, u32 meta low, u32 meta high, key, up to a multiple of 4
 * with meta = length of the value (27 bits), length of the key (11), low bits of the value's CRC32C (26).
 * That is 20 bytes and at most 3 of padding beside the key, and 4 for the head: 27 of the 40 allowed;
 * the growth of the two arrays (an eighth) makes it 31.
 *
 * Invariants
 *  I1  An entry never moves while its key exists. A freed one has place 0 and waits in the list of its
 *      size: index_walk() in the order of the arena meets every lasting key once.
 *  I2  The number of buckets is the highest number of keys there was, at least 64; bucket b holds the keys whose hash maps
 *      to b by the rule of linear hashing.
 *
 * Not thread-safe: the namespace's lock holds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_entry {
    uint32_t segment, place;
    uint32_t value_len;
    uint32_t check; /* low 26 bits of the value's checksum */
};

#define INDEX_CHECK_MASK 0x03ffffffu

struct index;

struct index *index_new(void); /* NULL: no memory */
void index_free(struct index *index);
void index_clear(struct index *index);
/* So many keys will come: makes their buckets at once. Only of an empty index; without memory nothing
 * happens, and the buckets are made one by one. */
void index_expect(struct index *index, uint64_t keys);
/* false: there is none. */
bool index_find(const struct index *index, const void *key, uint32_t len, struct index_entry *ret);
struct index_key {
    const void *key;
    uint32_t len;
};
#define INDEX_TOGETHER 32u
/* index_find() of up to INDEX_TOGETHER keys: how many there are, and the entries of those. Their places in
 * memory are asked for together, which is several times as fast where the index is larger than the caches. */
unsigned index_find_all(const struct index *index, const struct index_key *keys, unsigned count,
                        struct index_entry *ret);
/* Adds or overwrites. 0 or -ENOMEM; then nothing changed. Overwriting never fails. */
int index_put(struct index *index, const void *key, uint32_t len, const struct index_entry *entry);
struct index_item {
    const void *key;
    uint32_t len;
    struct index_entry entry;
};
/* index_put() of several, in their order; those before the one without memory are there. Their places in
 * memory are asked for together: several times as fast where the index is larger than the caches. */
int index_put_all(struct index *index, const struct index_item *items, size_t count);
/* Moves a key's entry from one record to another, when it still is at the first. */
bool index_move(struct index *index, const void *key, uint32_t len, const struct index_entry *from,
                const struct index_entry *to);
bool index_remove(struct index *index, const void *key, uint32_t len);
uint64_t index_count(const struct index *index);
uint64_t index_memory(const struct index *index);
/* Walks all entries: *at starts at 0. Returns the key, or NULL at the end. */
const void *index_walk(const struct index *index, uint64_t *at, uint32_t *ret_len,
                       struct index_entry *ret);
