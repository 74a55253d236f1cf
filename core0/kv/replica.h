/*
 * replica.h - following a primary: what the primary knows of its followers, and the follower itself.
 *
 * The follower is a client with the administrator's right. It asks (FOLLOW token milliseconds) for the list of namespaces as
 * soon as anything changed, and per namespace (FOLLOW name id cursor) for the records after what it has. It makes them safe by its own policy before
 * it asks on: so the cursor it sends is what it holds, and WAITREPLICAS on the primary counts on that.
 */
#pragma once

#include "command.h"
#include "replica_client.h"

/* ---- on the primary ---- */
void follower_free(struct session *session); /* the session ends */
unsigned followers_count(const struct server *server);
int followers_new(struct server *server);
void followers_free(struct server *server);

/* ---- on the replica ---- */
struct replica;

struct replica_options {
    struct replica_primary primary; /* address NULL: none */
    char password[SERVER_PASSWORD_MAX + 1];
    const char *state; /* file that says which of the primary's namespaces ours are */
};

int replica_start(struct server *server, const struct replica_options *options, struct error *err);
void replica_stop(struct server *server);
