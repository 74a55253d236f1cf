/*
 * replica_internal.h - what the parts of the follower share; replica.c says how they go together.
 */
#pragma once

#include "replica.h"
#include "replica_client.h"

struct followed {
    char name[STORE_NAME_MAX + 1];
    uint64_t primary_id;
    uint64_t last_number; /* of the primary, as of the last list */
    struct namespace *ns;
    struct store_cursor cursor;
    bool seen;     /* in the list that is being read */
    bool level;    /* the primary knows that we hold everything up to the cursor */
    bool hopeless; /* cannot be followed; said once */
};

struct replica {
    struct server *server;
    struct replica_options options;
    pthread_t thread;
    bool started;
    int stop_fd, notify_fd;
    struct tls *tls; /* NULL: without */
    struct replica_client client;
    struct followed *followed;
    size_t count;
    bool connected; /* for the log: said once per change */
};

/* ---- replica_list.c ---- */
void replica_state_load(struct replica *replica);
/* One FOLLOW of the list; waits at the primary until something is new. 0, -errno or a result of the store. */
int replica_take_list(struct replica *replica, uint64_t *token);
/* Ours has nothing to do with the primary's any more: begin with an empty one. */
int replica_followed_renew(struct replica *replica, struct followed *f);
void replica_followed_put(struct followed *f);

/* ---- replica_records.c ---- */
/* On a new connection: goes on behind the newest record that we hold, which a broken answer may have moved. */
int replica_follow_again(struct replica *replica, struct followed *f);
/* Takes records until there are no more. 0, -errno or a result of the store. */
int replica_follow_namespace(struct replica *replica, struct followed *f);
