/*
 * ledger.h - the node's list of reservations as the chain's running hash proves it.
 *
 * Every transition is a `change`. Changes are folded in order; the fold must meet the head that a storage proof showed, so
 * that nothing can be left out, added or altered (docs/formats.md, section 6). Content of a revision (what was proposed) is
 * taken only when its recomputed commitment is the folded one.
 *
 * Invariants: changes are applied in rising sequence without a gap; a revision that is final never changes again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <yyjson.h>

#include "lib/error.h"
#include "lib/eth/log.h"
#include "provision/spec.h"

enum chain_state {
    CHAIN_NONE,
    CHAIN_PROPOSED,
    CHAIN_APPROVED,
    CHAIN_FUNDED,
    CHAIN_DEPLOYING,
    CHAIN_ACTIVE,
    CHAIN_GRACE,
    CHAIN_SUSPENDED,
    CHAIN_CLOSED,
    CHAIN_REJECTED,
    CHAIN_EXPIRED,
    CHAIN_FAILED,
    CHAIN_STATES
};

bool chain_state_final(enum chain_state state);
bool chain_state_runs(enum chain_state state); /* a workload is to be there: Funded to Grace */
const char *chain_state_name(enum chain_state state);

#define LEDGER_SEALED_INLINE_MAX 1024
#define LEDGER_HUBS_MAX 3
#define LEDGER_HUB_SIZE_MAX 256
#define LEDGER_DEPLOY_AGAIN 86400 /* seconds the contract gives a node after Suspended → Funded */
#define LEDGER_RESERVATIONS_MAX 4096 /* that are not final; a farm's own limit is far lower */

/* What a tenant proposed. Hubs, times and keep are hints: the commitment does not cover them. */
struct ledger_content {
    uint8_t tenant[20];
    uint32_t key_epoch;
    uint8_t resources[32];
    uint8_t content_hash[32];
    uint8_t sealed_hash[32];
    uint8_t blob[32];               /* SHA-256 of the sealed bytes; zero when they travel inline */
    uint64_t approve_by, deploy_by; /* Unix seconds; deploy_by moves when it is funded again */
    uint32_t keep;                  /* seconds */
    bool replace;
    uint8_t *sealed; /* inline bytes, owned */
    size_t sealed_len;
    char hubs[LEDGER_HUBS_MAX][LEDGER_HUB_SIZE_MAX + 1];
    size_t hub_count;
};

struct ledger_change {
    uint64_t block;
    uint64_t id;
    uint32_t revision;
    enum chain_state state;
    uint64_t sequence;
    uint64_t previous_block;
    uint8_t reason[32];
    uint8_t commitment[32];
    uint64_t time;                  /* Unix seconds; a hint */
    struct ledger_content *content; /* with Proposed; owned */
};

struct ledger_revision {
    uint64_t id;
    uint32_t revision;
    enum chain_state state;
    char reason[33];
    uint8_t commitment[32];
    uint64_t changed;               /* time of the last change */
    uint64_t sequence;              /* of the last change */
    uint32_t round;                 /* how often it was funded again after Suspended */
    struct ledger_content *content; /* NULL when it is not known any more */
};

/* Which contract and node the list is of: part of every commitment. */
struct ledger_scope {
    uint64_t chain_id;
    uint8_t reservations[20];
    uint64_t node;
};

bool ledger_scope_equal(const struct ledger_scope *a, const struct ledger_scope *b);

struct ledger {
    struct ledger_scope scope;
    uint64_t sequence;
    uint64_t last_block; /* of the last change */
    uint8_t head[32];
    struct ledger_revision *revisions; /* rising (id, revision) */
    size_t count;
};

void ledger_init(struct ledger *ledger, const struct ledger_scope *scope);
void ledger_done(struct ledger *ledger);
int ledger_copy(const struct ledger *from,
                struct ledger *ret_ledger); /* ret_ledger uninitialised */

/* Reads the Changed and Proposed logs of one block and pairs them; the result is in rising sequence.
 * Every log must be of the contract, the node and the block. chain.bad-list otherwise. */
int ledger_changes_from_logs(const struct ledger_scope *scope, uint64_t block,
                             const struct eth_log *logs, size_t count,
                             struct ledger_change **ret_changes, size_t *ret_count,
                             struct error *err);
void ledger_changes_free(struct ledger_change *changes, size_t count);

/* head' of one change; what the contract does. */
void ledger_fold(uint8_t head[32], const struct ledger_change *change);
/* Recomputes what commits to a content. */
void ledger_commitment(const struct ledger_scope *scope, const struct ledger_content *content,
                       uint32_t revision, uint8_t ret_commitment[32]);

/* Applies one change; takes its content over. chain.bad-list: not the next one, a transition that no contract makes, or a
 * content that its commitment does not cover, or that is missing with Proposed. */
int ledger_apply(struct ledger *ledger, struct ledger_change *change, struct error *err);

/* Drops final revisions whose last change lies at or below `sequence`, except those that `keep` wants. */
void ledger_prune(struct ledger *ledger, uint64_t sequence,
                  bool (*keep)(const struct ledger_revision *, void *), void *data);

struct ledger_revision *ledger_find(struct ledger *ledger, uint64_t id, uint32_t revision);
/* The live revision with the lowest number; NULL: none. */
struct ledger_revision *ledger_current(struct ledger *ledger, uint64_t id);

/* The form in provd's state folder. */
yyjson_mut_val *ledger_to_json(const struct ledger *ledger, yyjson_mut_doc *doc);
int ledger_from_json(yyjson_val *object, struct ledger *ret_ledger, struct error *err);
