/*
 * ledger.c - folding and keeping the node's list; see ledger.h.
 */
#include "provision/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/keccak.h"
#include "lib/eth/abi.h"

#define BAD "chain.bad-list"
#define HINT "name another chain endpoint with croft.chain"
#define CHANGED "Changed(uint64,uint64,uint32,uint8,uint64,uint64,bytes32,bytes32,address,uint64)"
#define PROPOSED                                                                                   \
    "Proposed(uint64,uint64,address,uint32,uint32,bytes32,bytes32,bytes32,bytes32,uint64,uint64,"  \
    "uint32,bool,bytes,string[])"

static const struct {
    const char *name;
    bool final;
    bool runs;
} states[CHAIN_STATES] = {
    [CHAIN_NONE] = {"None", false, false},          [CHAIN_PROPOSED] = {"Proposed", false, false},
    [CHAIN_APPROVED] = {"Approved", false, false},  [CHAIN_FUNDED] = {"Funded", false, true},
    [CHAIN_DEPLOYING] = {"Deploying", false, true}, [CHAIN_ACTIVE] = {"Active", false, true},
    [CHAIN_GRACE] = {"Grace", false, true},         [CHAIN_SUSPENDED] = {"Suspended", false, false},
    [CHAIN_CLOSED] = {"Closed", true, false},       [CHAIN_REJECTED] = {"Rejected", true, false},
    [CHAIN_EXPIRED] = {"Expired", true, false},     [CHAIN_FAILED] = {"Failed", true, false},
};

bool chain_state_final(enum chain_state state)
{
    return states[state].final;
}

bool chain_state_runs(enum chain_state state)
{
    return states[state].runs;
}

const char *chain_state_name(enum chain_state state)
{
    return states[state].name;
}

static int bad(struct error *err, const char *why)
{
    return error_set(err, EBADMSG, BAD, HINT, "the chain endpoint's list of changes is wrong: %s",
                     why);
}

bool ledger_scope_equal(const struct ledger_scope *a, const struct ledger_scope *b)
{
    return a->chain_id == b->chain_id && a->node == b->node &&
           memcmp(a->reservations, b->reservations, sizeof(a->reservations)) == 0;
}

/* ---- life ---- */

static void content_free(struct ledger_content *content)
{
    if (content != NULL) {
        free(content->sealed);
        free(content);
    }
}

static struct ledger_content *content_copy(const struct ledger_content *from)
{
    struct ledger_content *content = malloc(sizeof(*content));
    if (content == NULL) {
        return NULL;
    }
    *content = *from;
    content->sealed = malloc(from->sealed_len + 1);
    if (content->sealed == NULL) {
        free(content);
        return NULL;
    }
    if (from->sealed_len > 0) {
        memcpy(content->sealed, from->sealed, from->sealed_len);
    }
    return content;
}

void ledger_init(struct ledger *ledger, const struct ledger_scope *scope)
{
    *ledger = (struct ledger){.scope = *scope};
}

void ledger_done(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->count; i++) {
        content_free(ledger->revisions[i].content);
    }
    free(ledger->revisions);
    ledger->revisions = NULL;
    ledger->count = 0;
}

int ledger_copy(const struct ledger *from, struct ledger *ret_ledger)
{
    struct ledger copy = *from;

    copy.count = 0;
    copy.revisions = calloc(from->count + 1, sizeof(*copy.revisions));
    if (copy.revisions == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < from->count; i++) {
        copy.revisions[i] = from->revisions[i];
        if (from->revisions[i].content != NULL) {
            copy.revisions[i].content = content_copy(from->revisions[i].content);
            if (copy.revisions[i].content == NULL) {
                ledger_done(&copy);
                return -ENOMEM;
            }
        }
        copy.count++;
    }
    *ret_ledger = copy;
    return 0;
}

void ledger_changes_free(struct ledger_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        content_free(changes[i].content);
    }
    free(changes);
}

/* ---- logs ---- */

static int topic_uint(const uint8_t topic[32], uint64_t *ret_value)
{
    struct abi_value value = abi_word(topic);
    return abi_get_uint(&value, ret_value);
}

static int values_uint(const struct abi_decoded *decoded, size_t index, uint64_t max,
                       uint64_t *ret_value)
{
    uint64_t value;
    int ret = abi_get_uint(&decoded->values[index], &value);
    if (ret < 0 || value > max) {
        return -EBADMSG;
    }
    *ret_value = value;
    return 0;
}

static int read_changed(const struct eth_log *log, struct ledger_change *ret_change)
{
    struct ledger_change change = {.block = log->block_number};
    struct abi_decoded decoded;
    uint64_t revision, state;

    if (log->topic_count != 3 || topic_uint(log->topics[2], &change.id) < 0) {
        return -EBADMSG;
    }
    int ret = abi_decode("(uint32,uint8,uint64,uint64,bytes32,bytes32,address,uint64)", log->data,
                         log->data_len, &decoded);
    if (ret < 0) {
        return ret;
    }
    if (values_uint(&decoded, 0, UINT32_MAX, &revision) < 0 ||
        values_uint(&decoded, 1, CHAIN_STATES - 1, &state) < 0 ||
        values_uint(&decoded, 2, UINT64_MAX, &change.sequence) < 0 ||
        values_uint(&decoded, 3, UINT64_MAX, &change.previous_block) < 0 ||
        values_uint(&decoded, 7, UINT64_MAX, &change.time) < 0) {
        abi_decoded_done(&decoded);
        return -EBADMSG;
    }
    change.revision = (uint32_t)revision;
    change.state = (enum chain_state)state;
    memcpy(change.reason, decoded.values[4].word, 32);
    memcpy(change.commitment, decoded.values[5].word, 32);
    abi_decoded_done(&decoded);
    *ret_change = change;
    return 0;
}

static int read_content(const struct abi_decoded *decoded, struct ledger_content *content)
{
    const struct abi_value *v = decoded->values;
    uint64_t epoch, keep, replace;

    if (values_uint(decoded, 1, UINT32_MAX, &epoch) < 0 ||
        values_uint(decoded, 6, UINT64_MAX, &content->approve_by) < 0 ||
        values_uint(decoded, 7, UINT64_MAX, &content->deploy_by) < 0 ||
        values_uint(decoded, 8, UINT32_MAX, &keep) < 0 ||
        values_uint(decoded, 9, 1, &replace) < 0) {
        return -EBADMSG;
    }
    if (v[10].len > LEDGER_SEALED_INLINE_MAX || v[11].len > LEDGER_HUBS_MAX) {
        return -EBADMSG;
    }
    content->key_epoch = (uint32_t)epoch;
    content->keep = (uint32_t)keep;
    content->replace = replace != 0;
    memcpy(content->resources, v[2].word, 32);
    memcpy(content->content_hash, v[3].word, 32);
    memcpy(content->sealed_hash, v[4].word, 32);
    memcpy(content->blob, v[5].word, 32);
    content->sealed = malloc(v[10].len + 1);
    if (content->sealed == NULL) {
        return -ENOMEM;
    }
    if (v[10].len > 0) {
        memcpy(content->sealed, v[10].data, v[10].len);
    }
    content->sealed_len = v[10].len;
    for (size_t i = 0; i < v[11].len; i++) {
        const struct abi_value *hub = &v[11].items[i];
        if (hub->len > LEDGER_HUB_SIZE_MAX || memchr(hub->data, '\0', hub->len) != NULL) {
            return -EBADMSG;
        }
        memcpy(content->hubs[i], hub->data, hub->len);
        content->hubs[i][hub->len] = '\0';
        content->hub_count++;
    }
    return 0;
}

/* Gives the content to the change of the same revision that proposed it. */
static int read_proposed(const struct eth_log *log, struct ledger_change *changes, size_t count)
{
    struct abi_decoded decoded;
    uint64_t id, revision;

    if (log->topic_count != 4 || topic_uint(log->topics[2], &id) < 0) {
        return -EBADMSG;
    }
    int ret = abi_decode("(uint32,uint32,bytes32,bytes32,bytes32,bytes32,uint64,uint64,uint32,bool,"
                         "bytes,string[])",
                         log->data, log->data_len, &decoded);
    if (ret < 0) {
        return ret;
    }
    ret = values_uint(&decoded, 0, UINT32_MAX, &revision);
    for (size_t i = 0; ret == 0 && i < count; i++) {
        if (changes[i].id != id || changes[i].revision != revision ||
            changes[i].state != CHAIN_PROPOSED || changes[i].content != NULL) {
            continue;
        }
        struct ledger_content *content = calloc(1, sizeof(*content));
        ret = content == NULL ? -ENOMEM : read_content(&decoded, content);
        if (ret < 0) {
            content_free(content);
            break;
        }
        memcpy(content->tenant, log->topics[3] + 12, 20);
        changes[i].content = content;
        break;
    }
    abi_decoded_done(&decoded);
    return ret;
}

static int by_sequence(const void *a, const void *b)
{
    const struct ledger_change *x = a, *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

int ledger_changes_from_logs(const struct ledger_scope *scope, uint64_t block,
                             const struct eth_log *logs, size_t count,
                             struct ledger_change **ret_changes, size_t *ret_count,
                             struct error *err)
{
    uint8_t changed[32], proposed[32];
    struct ledger_change *changes = calloc(count + 1, sizeof(*changes));
    size_t found = 0;

    if (changes == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    abi_topic(CHANGED, changed);
    abi_topic(PROPOSED, proposed);
    for (size_t i = 0; i < count; i++) {
        uint64_t node;
        if (memcmp(logs[i].address, scope->reservations, 20) != 0 || logs[i].removed ||
            logs[i].block_number != block || logs[i].topic_count < 3 ||
            topic_uint(logs[i].topics[1], &node) < 0 || node != scope->node) {
            ledger_changes_free(changes, found);
            return bad(err, "a log is of another contract, node or block");
        }
        if (memcmp(logs[i].topics[0], changed, 32) == 0) {
            if (read_changed(&logs[i], &changes[found]) < 0) {
                ledger_changes_free(changes, found);
                return bad(err, "a Changed log cannot be read");
            }
            found++;
        }
    }
    qsort(changes, found, sizeof(*changes), by_sequence);
    for (size_t i = 0; i < count; i++) {
        if (memcmp(logs[i].topics[0], proposed, 32) == 0 &&
            read_proposed(&logs[i], changes, found) < 0) {
            ledger_changes_free(changes, found);
            return bad(err, "a Proposed log cannot be read");
        }
    }
    *ret_changes = changes;
    *ret_count = found;
    return 0;
}

/* ---- folding ---- */

static void put_uint(uint8_t word[32], uint64_t value)
{
    memset(word, 0, 32);
    for (size_t i = 0; i < 8; i++) {
        word[31 - i] = (uint8_t)(value >> (8 * i));
    }
}

void ledger_fold(uint8_t head[32], const struct ledger_change *change)
{
    uint8_t words[7][32];

    memcpy(words[0], head, 32);
    put_uint(words[1], change->sequence);
    put_uint(words[2], change->id);
    put_uint(words[3], change->revision);
    put_uint(words[4], change->state);
    memcpy(words[5], change->reason, 32);
    memcpy(words[6], change->commitment, 32);
    keccak256(words, sizeof(words), head);
}

void ledger_commitment(const struct ledger_scope *scope, const struct ledger_content *content,
                       uint32_t revision, uint8_t ret_commitment[32])
{
    uint8_t words[10][32];

    memset(words, 0, sizeof(words));
    keccak256("croft-commitment-v1", strlen("croft-commitment-v1"), words[0]);
    put_uint(words[1], scope->chain_id);
    memcpy(words[2] + 12, scope->reservations, 20);
    memcpy(words[3] + 12, content->tenant, 20);
    put_uint(words[4], scope->node);
    put_uint(words[5], content->key_epoch);
    put_uint(words[6], revision);
    memcpy(words[7], content->resources, 32);
    memcpy(words[8], content->content_hash, 32);
    memcpy(words[9], content->sealed_hash, 32);
    keccak256(words, sizeof(words), ret_commitment);
}

static int revision_order(const struct ledger_revision *entry, uint64_t id, uint32_t revision)
{
    if (entry->id != id) {
        return entry->id < id ? -1 : 1;
    }
    return (entry->revision > revision) - (entry->revision < revision);
}

/* Index of the first entry that is not below (id, revision). */
static size_t lower_bound(const struct ledger *ledger, uint64_t id, uint32_t revision)
{
    size_t low = 0, high = ledger->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (revision_order(&ledger->revisions[middle], id, revision) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct ledger_revision *ledger_find(struct ledger *ledger, uint64_t id, uint32_t revision)
{
    size_t i = lower_bound(ledger, id, revision);
    bool found = i < ledger->count && revision_order(&ledger->revisions[i], id, revision) == 0;
    return found ? &ledger->revisions[i] : NULL;
}

struct ledger_revision *ledger_current(struct ledger *ledger, uint64_t id)
{
    for (size_t i = lower_bound(ledger, id, 0); i < ledger->count && ledger->revisions[i].id == id;
         i++) {
        if (!chain_state_final(ledger->revisions[i].state)) {
            return &ledger->revisions[i];
        }
    }
    return NULL;
}

static struct ledger_revision *insert(struct ledger *ledger, uint64_t id, uint32_t revision)
{
    struct ledger_revision *grown =
        reallocarray(ledger->revisions, ledger->count + 1, sizeof(*grown));
    if (grown == NULL) {
        return NULL;
    }
    ledger->revisions = grown;
    size_t i = lower_bound(ledger, id, revision);
    memmove(&grown[i + 1], &grown[i], (ledger->count - i) * sizeof(*grown));
    grown[i] = (struct ledger_revision){.id = id, .revision = revision};
    ledger->count++;
    return &grown[i];
}

int ledger_apply(struct ledger *ledger, struct ledger_change *change, struct error *err)
{
    if (change->sequence != ledger->sequence + 1) {
        return bad(err, "a change is missing");
    }
    struct ledger_revision *entry = ledger_find(ledger, change->id, change->revision);
    if (entry != NULL && (chain_state_final(entry->state) ||
                          memcmp(entry->commitment, change->commitment, 32) != 0)) {
        return bad(err, "a revision changes that is final, or has another commitment");
    }
    if (change->state == CHAIN_PROPOSED && change->content == NULL) {
        return bad(err, "a proposal is missing");
    }
    if (change->content != NULL) {
        uint8_t commitment[32], sealed_hash[32];
        ledger_commitment(&ledger->scope, change->content, change->revision, commitment);
        if (memcmp(commitment, change->commitment, 32) != 0) {
            return bad(err, "a proposal is not what its commitment says");
        }
        keccak256(change->content->sealed, change->content->sealed_len, sealed_hash);
        if (change->content->sealed_len > 0 &&
            memcmp(sealed_hash, change->content->sealed_hash, 32) != 0) {
            return bad(err, "sealed bytes are not what their hash says");
        }
    }
    if (entry == NULL) {
        if (ledger->count >= LEDGER_RESERVATIONS_MAX) {
            return bad(err, "more reservations than a node can have");
        }
        entry = insert(ledger, change->id, change->revision);
        if (entry == NULL) {
            return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
        }
        memcpy(entry->commitment, change->commitment, 32);
    }
    if (change->content != NULL) {
        content_free(entry->content);
        entry->content = change->content;
        change->content = NULL;
    }
    if (entry->state == CHAIN_SUSPENDED && change->state == CHAIN_FUNDED) {
        entry->round++;
        if (entry->content != NULL) {
            entry->content->deploy_by = change->time + LEDGER_DEPLOY_AGAIN;
        }
    }
    entry->state = change->state;
    memcpy(entry->reason, change->reason, 32);
    entry->reason[32] = '\0';
    entry->changed = change->time;
    entry->sequence = change->sequence;
    ledger_fold(ledger->head, change);
    ledger->sequence = change->sequence;
    ledger->last_block = change->block;
    return 0;
}

void ledger_prune(struct ledger *ledger, uint64_t sequence,
                  bool (*keep)(const struct ledger_revision *, void *), void *data)
{
    size_t left = 0;
    for (size_t i = 0; i < ledger->count; i++) {
        struct ledger_revision *entry = &ledger->revisions[i];
        if (chain_state_final(entry->state) && entry->sequence <= sequence && !keep(entry, data)) {
            content_free(entry->content);
            continue;
        }
        ledger->revisions[left++] = *entry;
    }
    ledger->count = left;
}
