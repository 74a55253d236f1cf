/*
 * reservation.h - a reservation as the contract holds it, its history, and waiting for a state.
 */
#pragma once

#include "cli/grid.h"

/* Numbers as in IReservations.sol. */
enum {
    RESERVATION_PROPOSED = 1,
    RESERVATION_ACTIVE = 5,
    RESERVATION_SUSPENDED = 7,
    RESERVATION_FIRST_FINAL = 8,
    RESERVATION_FAILED = 11
};

struct reservation {
    uint64_t id, node;
    uint8_t tenant[20];
    uint32_t current, candidate, last;
};

struct reservation_revision {
    unsigned state;
    uint8_t resources[32];
    uint64_t approve_by, deploy_by;
};

const char *reservation_state_name(unsigned state);
/* reservation.unknown when there is none. */
int reservation_read(const struct grid *grid, uint64_t id, struct reservation *ret_reservation,
                     struct error *err);
int reservation_read_revision(const struct grid *grid, uint64_t id, uint32_t revision,
                              struct reservation_revision *ret_revision, struct error *err);
/* The reason of the revision's last transition ("" if none); 33 bytes. */
int reservation_reason(const struct grid *grid, uint64_t id, uint32_t revision, char ret_reason[33],
                       struct error *err);
/* Every transition as an array of objects, oldest first. */
int reservation_history(const struct grid *grid, uint64_t id, yyjson_mut_doc *doc,
                        yyjson_mut_val *list, struct error *err);
/* Waits until the revision is Active or final, telling each change by `tell`. -ETIMEDOUT with deploy.timed-out. */
int reservation_wait(const struct grid *grid, uint64_t id, uint32_t revision, uint64_t timeout_s,
                     void (*tell)(unsigned state, void *data), void *data, unsigned *ret_state,
                     struct error *err);
