/*
 * kv_model.h - what a store must hold: every value a key had, and which of them were answered.
 *
 * After a power cut a key may have the newest answered value, or any that was written after it and not
 * answered; nothing else, and the records that are left are a beginning of those that were written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/store.h"

#define MODEL_KEYS 64
#define MODEL_VERSIONS 512

struct model_version {
    uint64_t order;  /* of the write in its namespace */
    uint64_t ticket; /* 0: answered */
    uint32_t len;    /* of the value; MODEL_ABSENT */
    uint8_t seed;
};

#define MODEL_ABSENT UINT32_MAX

struct model {
    struct model_version versions[MODEL_KEYS][MODEL_VERSIONS];
    uint32_t count[MODEL_KEYS];
    uint64_t order;
};

void model_init(struct model *model);
/* What a value with this seed looks like. */
void model_value(uint8_t seed, uint32_t len, uint8_t *out);
uint32_t model_key(uint32_t key, char out[32]);
extern bool model_is_seq; /* then keys are ids */
void model_wrote(struct model *model, uint32_t key, uint32_t len, uint8_t seed, uint64_t ticket);
/* All with tickets up to this one are answered. */
void model_answered(struct model *model, uint64_t ticket);
/* Reads every key; fails the test on what cannot be. `exact`: nothing was lost. `damage`: a key may be
 * reported damaged, and those that were are counted. What was read becomes what is answered. */
void model_check(struct model *model, struct namespace *ns, bool exact, uint32_t *damage,
                 const char *when);
/* Scans, and compares with the reads: the same keys, rising numbers. */
void model_check_scan(struct model *model, struct namespace *ns, const char *when);
