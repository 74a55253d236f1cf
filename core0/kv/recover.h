/*
 * recover.h - the parts of recovery: where the log ends, and what it says.
 */
#pragma once

#include "kv/store_internal.h"

/* Finds the tail, cuts it, syncs what is left (recover_tail.c). `start` and `start_offset`: what the index
 * holds lies before them. 0 or -errno. */
int recover_tail(struct namespace *ns, uint32_t start, uint64_t start_offset);
/* The index from its snapshot or slots, and from the log behind them; the tail is settled in between
 * (recover_replay.c). 0 or -errno. */
int recover_index(struct namespace *ns);
