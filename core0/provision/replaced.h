/*
 * replaced.h - the revisions that a reorganisation took back, remembered until a sweep has removed what they made, also by a provd that
 * was started meanwhile. Without that it would take what still runs for the proposal that has the number now (docs/decisions/0150).
 *
 * replaced.json in the state folder: [{"reservation":…,"revision":…}…]; absent when there are none. It is written before the list that
 * shows the other branch is kept, so there is no moment at which the one is known and the other forgotten.
 */
#pragma once

#include "provision/provision.h"

/* A list was proved: whatever of it is not the proposal that was begun is remembered. What cannot be written is told to the log. */
void replaced_note(struct provision *provision, const struct ledger *latest);
/* Some were swept. */
void replaced_swept(struct provision *provision);
/* Before the first look at the list: those that an earlier provd had not swept stay in the way of their successors. */
void replaced_resume(struct provision *provision);
