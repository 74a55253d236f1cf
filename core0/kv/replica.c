/*
 * replica.c - the follower: keeps this server's namespaces and records like its primary's.
 *
 * States of a namespace: unknown (made, or emptied because the primary's is another one now) -> following (records are
 * applied with the primary's numbers) -> level (an empty answer came). A lost connection changes nothing: the cursor begins
 * again at the newest record we hold.
 */
#include "replica_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"
#include "tls.h"

#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS 5000

/* ---- the connection ---- */

static int authenticate(struct replica *replica)
{
    static const struct replica_argument challenge[] = {
        {"AUTH", 4}, {"SECURE", 6}, {"CHALLENGE", 9}};
    const char *password = replica->options.password;
    char nonce[SESSION_NONCE + 1], hash[41], ok[8];
    struct replica_argument answer[] = {{"AUTH", 4}, {"SECURE", 6}, {hash, 40}};
    int r;

    if (password[0] == '\0')
        return 0;
    r = replica_client_send(&replica->client, challenge, 3);
    if (r == 0)
        r = replica_client_simple(&replica->client, nonce, sizeof(nonce));
    if (r < 0)
        return r;
    command_secret((const uint8_t *)password, strlen(password), nonce, hash);
    r = replica_client_send(&replica->client, answer, 3);
    return r == 0 ? replica_client_simple(&replica->client, ok, sizeof(ok)) : r;
}

static int follow(struct replica *replica)
{
    uint64_t token = 0;
    int r = replica_client_open(&replica->client, &replica->options.primary, replica->tls,
                                replica->stop_fd, replica->server->options.max_value);

    if (r == 0)
        r = authenticate(replica);
    if (r == 0)
        log_info("following %s", replica->options.primary.address);
    for (size_t i = 0; r == 0 && i < replica->count; i++)
        r = replica_follow_again(replica, &replica->followed[i]);
    while (r == 0) {
        r = replica_take_list(replica, &token);
        if (r == 0)
            replica->connected = true;
        for (size_t i = 0; r == 0 && i < replica->count; i++)
            r = replica_follow_namespace(replica, &replica->followed[i]);
    }
    replica_client_close(&replica->client);
    return r;
}

static void say(struct replica *replica, int r)
{
    struct error err = {.code = ""};

    if (r == -EREMOTEIO) {
        log_warn("%s answers: %s", replica->options.primary.address, replica->client.error);
        return;
    }
    if (r == -EKEYREJECTED) {
        error_set(&err, -r, "kv.tls", "give its authority, or its certificate itself",
                  "%s shows another certificate than was expected",
                  replica->options.primary.address);
        log_error(&err, "the replica");
        return;
    }
    store_error(r, &err);
    if (r == STORE_DISK_FAILED || r == STORE_READ_ONLY || r == STORE_NO_SPACE || r == STORE_CROWDED)
        log_error(&err, "the replica");
    else if (replica->connected)
        log_warn("%s is away: %s", replica->options.primary.address, strerror(-r));
}

static void *replica_main(void *data)
{
    struct replica *replica = data;
    int pause = RETRY_FIRST_MS;

    for (;;) {
        struct pollfd stop = {.fd = replica->stop_fd, .events = POLLIN};
        int r = follow(replica);

        if (r == -ECANCELED)
            break;
        if (replica->connected)
            pause = RETRY_FIRST_MS;
        say(replica, r);
        replica->connected = false;
        if (poll(&stop, 1, pause) > 0)
            break;
        pause = pause * 2 < RETRY_MOST_MS ? pause * 2 : RETRY_MOST_MS;
    }
    return NULL;
}

int replica_start(struct server *server, const struct replica_options *options, struct error *err)
{
    struct replica *replica = calloc(1, sizeof(*replica));
    int r;

    if (replica == NULL)
        return error_set(err, ENOMEM, "kv.no-memory", "", "no memory for the replica");
    server->replica = replica;
    replica->server = server;
    replica->options = *options;
    replica->client.fd = replica->stop_fd = replica->notify_fd = -1;
    if (strncmp(options->primary.address, "tls:", 4) == 0) {
        r = tls_client_new(options->primary.trusted, &replica->tls, err);
        if (r < 0)
            return r;
    }
    replica->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    replica->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (replica->stop_fd < 0 || replica->notify_fd < 0)
        return error_set(err, errno, "kv.no-memory", "", "no descriptor for the replica");
    r = store_notify(server->store, replica->notify_fd);
    if (r < 0)
        return store_error(r, err);
    replica_state_load(replica);
    r = -pthread_create(&replica->thread, NULL, replica_main, replica);
    if (r < 0)
        return error_set(err, -r, "kv.no-worker", "", "a thread cannot start: %s", strerror(-r));
    replica->started = true;
    return 0;
}

void replica_stop(struct server *server)
{
    struct replica *replica = server->replica;
    uint64_t one = 1;

    if (replica == NULL)
        return;
    if (replica->started) {
        if (write(replica->stop_fd, &one, sizeof(one)) < 0)
            log_err("the replica cannot be stopped: %s", strerror(errno));
        pthread_join(replica->thread, NULL);
    }
    store_notify_remove(server->store, replica->notify_fd);
    for (size_t i = 0; i < replica->count; i++)
        replica_followed_put(&replica->followed[i]);
    free(replica->followed);
    tls_free(replica->tls);
    if (replica->stop_fd >= 0)
        close(replica->stop_fd);
    if (replica->notify_fd >= 0)
        close(replica->notify_fd);
    free(
        replica); /* server->replica stays set: workers that still run refuse writes until they end */
}
