/*
 * silence.h - since when a TCP peer owes an acknowledgement.
 *
 * TCP_USER_TIMEOUT is looked at when the kernel tries again to send, and that attempt may be late by half of it (RFC 6069). Here the time
 * is counted by whoever writes: no timer and no descriptor of its own.
 */
#pragma once

#include <stdint.h>

struct silence {
    int fd; /* a TCP socket, the caller's */
    /* Since then the peer may owe an acknowledgement and has given none (loop_clock(), us); 0: it owes none that we know of. */
    uint64_t since;
};

/* Before each write: the time begins when everything before it was acknowledged. One ioctl(2). */
void silence_writes(struct silence *silence, uint64_t now);
/* Asks the kernel, and corrects `since`: 0 when nothing is owed, later when the peer has acknowledged something meanwhile. */
void silence_ask(struct silence *silence, uint64_t now);
/* What was sent will never be acknowledged: closing the descriptor drops it at once, instead of leaving it to the kernel to try on. */
void silence_forget(const struct silence *silence);
