/*
 * index.c - see index.h.
 */
#include "kv/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define ENTRY_WORDS 5u /* next, segment, place, meta */
#define KEY_MAX 1024u
#define CLASSES (ENTRY_WORDS + KEY_MAX / 4 + 1)
#define BUCKETS_MIN 64u
#define MAPPED_MIN ((size_t)4 << 20) /* bytes of an array that is a mapping of its own */

struct index {
    uint64_t secret[2]; /* of the hash: a tenant must not choose keys that collide */
    uint32_t *heads;    /* unit of the first entry, 0: none */
    uint64_t buckets, heads_room;
    uint64_t level; /* largest power of two <= buckets */
    uint32_t *arena;
    uint64_t used, room; /* in units; unit 0 is never an entry */
    uint64_t count;
    uint32_t free[CLASSES]; /* by size in units, linked by `next` */
};

/* ---- hash: SipHash-1-3 (Aumasson, Bernstein), keyed per index ---------------------------------- */

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

#define SIP_ROUND                                                                                  \
    do {                                                                                           \
        a += b, b = rotate(b, 13) ^ a, a = rotate(a, 32);                                          \
        c += d, d = rotate(d, 16) ^ c;                                                             \
        a += d, d = rotate(d, 21) ^ a;                                                             \
        c += b, b = rotate(b, 17) ^ c, c = rotate(c, 32);                                          \
    } while (0)

static uint64_t hash(const struct index *index, const void *key, uint32_t len)
{
    const uint8_t *at = key;
    uint64_t a = index->secret[0] ^ 0x736f6d6570736575u, b = index->secret[1] ^ 0x646f72616e646f6du;
    uint64_t c = index->secret[0] ^ 0x6c7967656e657261u, d = index->secret[1] ^ 0x7465646279746573u;
    uint64_t word, last = (uint64_t)len << 56;

    for (; len >= 8; len -= 8, at += 8) {
        memcpy(&word, at, sizeof(word));
        d ^= word;
        SIP_ROUND;
        a ^= word;
    }
    word = 0;
    memcpy(&word, at, len);
    last |= word;
    d ^= last;
    SIP_ROUND;
    a ^= last;
    c ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return a ^ b ^ c ^ d;
}

static uint64_t bucket_of(const struct index *index, uint64_t hash_value)
{
    uint64_t bucket = hash_value & (2 * index->level - 1);

    return bucket < index->buckets ? bucket : hash_value & (index->level - 1);
}

/* ---- entries ---------------------------------------------------------------------------------- */

static uint32_t units_of(uint32_t key_len)
{
    return ENTRY_WORDS + (key_len + 3) / 4;
}

static uint64_t meta_of(const uint32_t *entry)
{
    return entry[3] | (uint64_t)entry[4] << 32;
}

static uint32_t key_len_of(const uint32_t *entry)
{
    return (uint32_t)(meta_of(entry) >> 27) & 0x7ffu;
}

static void entry_write(uint32_t *entry, uint32_t key_len, const struct index_entry *from)
{
    uint64_t meta = from->value_len | (uint64_t)key_len << 27 |
                    (uint64_t)(from->check & INDEX_CHECK_MASK) << 38;

    entry[1] = from->segment;
    entry[2] = from->place;
    entry[3] = (uint32_t)meta;
    entry[4] = (uint32_t)(meta >> 32);
}

static void entry_read(const uint32_t *entry, struct index_entry *ret)
{
    uint64_t meta = meta_of(entry);

    *ret = (struct index_entry){.segment = entry[1],
                                .place = entry[2],
                                .value_len = (uint32_t)meta & 0x7ffffffu,
                                .check = (uint32_t)(meta >> 38)};
}

/* Keys are short: a call of memcmp() and memcpy() costs more than these words. */
static bool key_is(const uint32_t *entry, const void *key, uint32_t len)
{
    const uint8_t *a = (const uint8_t *)(entry + ENTRY_WORDS), *b = key;
    uint64_t x, y;

    if (key_len_of(entry) != len)
        return false;
    if (len < sizeof(x))
        return memcmp(a, b, len) == 0;
    for (uint32_t at = 0;; at += (uint32_t)sizeof(x)) {
        if (at > len - sizeof(x))
            at = len - (uint32_t)sizeof(x); /* the last bytes, some of them once more */
        memcpy(&x, a + at, sizeof(x));
        memcpy(&y, b + at, sizeof(y));
        if (x != y)
            return false;
        if (at == len - sizeof(x))
            return true;
    }
}

/* The word that points to the key's entry, or to 0 where its chain ends. */
static uint32_t *find(const struct index *index, uint64_t hash_value, const void *key, uint32_t len)
{
    uint32_t *link = &index->heads[bucket_of(index, hash_value)];

    while (*link != 0) {
        uint32_t *entry = index->arena + *link;

        if (key_is(entry, key, len))
            break;
        link = entry;
    }
    return link;
}

/* ---- growth ----------------------------------------------------------------------------------- */

/* Small arrays are the allocator's. Large ones are mappings of their own: growing moves their page tables and no
 * bytes, and they are of huge pages, as keys lie anywhere: with small ones each look-up waits for page tables, too. */
static uint32_t *words_resize(uint32_t *words, size_t from, size_t to)
{
    void *moved;

    if (to < MAPPED_MIN)
        return realloc(words, to);
    if (from >= MAPPED_MIN)
        moved = mremap(words, from, to, MREMAP_MAYMOVE);
    else
        moved = mmap(NULL, to, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (moved == MAP_FAILED)
        return NULL;
    (void)madvise(moved, to, MADV_HUGEPAGE); /* only a wish */
    if (from > 0 && from < MAPPED_MIN)
        memcpy(moved, words, from);
    if (from < MAPPED_MIN)
        free(words);
    return moved;
}

static void words_free(uint32_t *words, uint64_t room)
{
    if (room * sizeof(*words) >= MAPPED_MIN)
        munmap(words, room * sizeof(*words));
    else
        free(words);
}

static int grow(uint32_t **words, uint64_t *room, uint64_t want)
{
    uint64_t to = *room + *room / 8 + 1024;
    uint32_t *moved;

    if (want <= *room)
        return 0;
    if (to < want)
        to = want;
    if (to > UINT32_MAX)
        return -ENOMEM;
    moved = words_resize(*words, *room * sizeof(*moved), to * sizeof(*moved));
    if (moved == NULL)
        return -ENOMEM;
    *words = moved;
    *room = to;
    return 0;
}

/* One more bucket: the keys of the bucket it splits are shared out. */
static void split(struct index *index)
{
    uint64_t new = index->buckets;
    uint32_t *stay, *go, at;

    index->buckets++;
    if (index->buckets > 2 * index->level)
        index->level *= 2;
    stay = &index->heads[new - index->level];
    go = &index->heads[new];
    /* The buckets behind are split next: the first two keys of each are on their way when its turn comes. */
    __builtin_prefetch(index->arena + stay[BUCKETS_MIN / 4]);
    if (stay[BUCKETS_MIN / 8] != 0)
        __builtin_prefetch(index->arena + index->arena[stay[BUCKETS_MIN / 8]]);
    at = *stay;
    *stay = *go = 0;
    while (at != 0) {
        uint32_t *entry = index->arena + at, next = *entry;
        uint64_t bucket = bucket_of(index, hash(index, entry + ENTRY_WORDS, key_len_of(entry)));

        *entry = 0;
        if (bucket == new) {
            *go = at;
            go = entry;
        } else {
            *stay = at;
            stay = entry;
        }
        at = next;
    }
}

struct index *index_new(void)
{
    struct index *index = calloc(1, sizeof(*index));

    if (index == NULL)
        return NULL;
    if (getrandom(index->secret, sizeof(index->secret), 0) != sizeof(index->secret) ||
        grow(&index->heads, &index->heads_room, BUCKETS_MIN) < 0) {
        index_free(index);
        return NULL;
    }
    index_clear(index);
    return index;
}

void index_clear(struct index *index)
{
    words_free(index->arena, index->room);
    index->arena = NULL;
    index->room = 0;
    index->used = 1;
    index->count = 0;
    memset(index->free, 0, sizeof(index->free));
    memset(index->heads, 0, BUCKETS_MIN * sizeof(*index->heads));
    index->buckets = index->level = BUCKETS_MIN;
}

void index_free(struct index *index)
{
    if (index == NULL)
        return;
    words_free(index->heads, index->heads_room);
    words_free(index->arena, index->room);
    free(index);
}

bool index_find(const struct index *index, const void *key, uint32_t len, struct index_entry *ret)
{
    uint32_t at = *find(index, hash(index, key, len), key, len);

    if (at == 0)
        return false;
    entry_read(index->arena + at, ret);
    return true;
}

unsigned index_find_all(const struct index *index, const struct index_key *keys, unsigned count,
                        struct index_entry *ret)
{
    uint64_t hashes[INDEX_TOGETHER];
    unsigned found = 0;

    for (unsigned i = 0; i < count; i++) {
        hashes[i] = hash(index, keys[i].key, keys[i].len);
        __builtin_prefetch(&index->heads[bucket_of(index, hashes[i])]);
    }
    for (unsigned i = 0; i < count; i++)
        __builtin_prefetch(index->arena + index->heads[bucket_of(index, hashes[i])]);
    for (unsigned i = 0; i < count; i++) {
        uint32_t at = *find(index, hashes[i], keys[i].key, keys[i].len);

        if (at != 0)
            entry_read(index->arena + at, &ret[found++]);
    }
    return found;
}

static int put(struct index *index, uint64_t hash_value, const void *key, uint32_t len,
               const struct index_entry *from)
{
    uint32_t at = *find(index, hash_value, key, len), units = units_of(len), *link;

    if (at != 0) {
        entry_write(index->arena + at, len, from);
        return 0;
    }
    at = index->free[units];
    if (at == 0 && grow(&index->arena, &index->room, index->used + units) < 0)
        return -ENOMEM;
    if (index->count >= index->buckets) {
        if (grow(&index->heads, &index->heads_room, index->buckets + 1) < 0)
            return -ENOMEM;
        split(index);
    }
    if (at != 0) {
        index->free[units] = index->arena[at];
    } else {
        at = (uint32_t)index->used;
        index->used += units;
    }
    index->arena[at] = 0;
    entry_write(index->arena + at, len, from);
    if (len % 4 != 0)
        index->arena[at + units - 1] = 0; /* padding: no memory of others in a dump */
    memcpy(index->arena + at + ENTRY_WORDS, key, len);
    link = &index->heads[bucket_of(index, hash_value)];
    index->arena[at] = *link;
    *link = at;
    index->count++;
    return 0;
}

int index_put(struct index *index, const void *key, uint32_t len, const struct index_entry *from)
{
    return put(index, hash(index, key, len), key, len, from);
}

int index_put_all(struct index *index, const struct index_item *items, size_t count)
{
    uint64_t hashes[INDEX_TOGETHER];

    for (; count > 0;) {
        size_t some = count < INDEX_TOGETHER ? count : INDEX_TOGETHER;

        for (size_t i = 0; i < some; i++) {
            hashes[i] = hash(index, items[i].key, items[i].len);
            __builtin_prefetch(&index->heads[bucket_of(index, hashes[i])], 1);
        }
        for (size_t i = 0; i < some; i++)
            __builtin_prefetch(index->arena + index->heads[bucket_of(index, hashes[i])]);
        for (size_t i = 0; i < some; i++) {
            int failed = put(index, hashes[i], items[i].key, items[i].len, &items[i].entry);

            if (failed < 0)
                return failed;
        }
        items += some;
        count -= some;
    }
    return 0;
}

bool index_move(struct index *index, const void *key, uint32_t len, const struct index_entry *from,
                const struct index_entry *to)
{
    uint32_t at = *find(index, hash(index, key, len), key, len);
    uint32_t *entry = index->arena + at;

    if (at == 0 || entry[1] != from->segment || entry[2] != from->place)
        return false;
    entry_write(entry, len, to);
    return true;
}

bool index_remove(struct index *index, const void *key, uint32_t len)
{
    uint32_t *link = find(index, hash(index, key, len), key, len), at = *link,
             *entry = index->arena + at;

    if (at == 0)
        return false;
    *link = *entry;
    entry[2] = 0;
    *entry = index->free[units_of(len)];
    index->free[units_of(len)] = at;
    index->count--;
    return true;
}

void index_expect(struct index *index, uint64_t keys)
{
    if (index->count > 0 || keys <= index->buckets || keys > UINT32_MAX / 2 ||
        grow(&index->heads, &index->heads_room, keys) < 0)
        return;
    memset(index->heads, 0, keys * sizeof(*index->heads));
    index->buckets = keys;
    while (index->level * 2 <= keys)
        index->level *= 2;
}

uint64_t index_count(const struct index *index)
{
    return index->count;
}

uint64_t index_memory(const struct index *index)
{
    return sizeof(*index) + (index->room + index->heads_room) * sizeof(uint32_t);
}

const void *index_walk(const struct index *index, uint64_t *at, uint32_t *ret_len,
                       struct index_entry *ret)
{
    if (*at == 0)
        *at = 1;
    while (*at < index->used) {
        const uint32_t *entry = index->arena + *at;
        uint32_t len = key_len_of(entry);

        *at += units_of(len);
        if (entry[2] != 0) {
            entry_read(entry, ret);
            *ret_len = len;
            return entry + ENTRY_WORDS;
        }
    }
    return NULL;
}
