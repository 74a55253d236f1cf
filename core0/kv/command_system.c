/*
 * command_system.c - PING ECHO TIME AUTH INFO HOOKS HELP QUIT STOP WAIT.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>

#include "command.h"
#include "lib/daemon.h"
#include "metrics.h"
#include "replica.h"

#define WAIT_DEFAULT_MS 5000 /* as 0-db, like the limits */
#define WAIT_LEAST_MS 100
#define WAIT_MOST_MS ((uint64_t)30 * 60 * 1000)

enum command_result command_ping(struct session *s, const struct command_call *call)
{
    (void)call;
    reply_simple(s, "PONG");
    return COMMAND_DONE;
}

/* redis-cli --pipe knows by it that everything before was answered. */
enum command_result command_echo(struct session *s, const struct command_call *call)
{
    struct command_bytes text = command_arg(call, 1);

    return reply_bulk(s, text.data, text.len) ? COMMAND_DONE : COMMAND_ROOM;
}

enum command_result command_quit(struct session *s, const struct command_call *call)
{
    (void)call;
    reply_simple(s, "OK");
    return COMMAND_CLOSE;
}

enum command_result command_time(struct session *s, const struct command_call *call)
{
    struct timeval now;
    char text[24];

    (void)call;
    gettimeofday(&now, NULL);
    reply_array(s, 2);
    (void)reply_bulk(s, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)now.tv_sec));
    (void)reply_bulk(s, text, (size_t)snprintf(text, sizeof(text), "%ld", (long)now.tv_usec));
    return COMMAND_DONE;
}

/* ---- AUTH ---- */

static enum command_result auth_challenge(struct session *s)
{
    uint8_t random[SESSION_NONCE / 2];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        reply_literal(s, "Internal generator error");
        return COMMAND_DONE;
    }
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(s->nonce + 2 * i, 3, "%02x", random[i]);
    reply_simple(s, s->nonce);
    return COMMAND_DONE;
}

enum command_result command_auth(struct session *s, const struct command_call *call)
{
    const char *password = s->worker->server->options.password, *nonce = NULL;
    struct command_bytes given = command_arg(call, command_count(call) - 1);
    bool right;

    if (command_count(call) == 3) {
        if (!command_is(command_arg(call, 1), "SECURE")) {
            reply_literal(s, "Only SECURE extra method supported");
            return COMMAND_DONE;
        }
        if (command_is(given, "CHALLENGE"))
            return auth_challenge(s);
        nonce = s->nonce;
    }
    if (password[0] == '\0') {
        reply_literal(s, "Authentication disabled");
        return COMMAND_DONE;
    }
    if (nonce != NULL && nonce[0] == '\0') {
        reply_literal(s, "No CHALLENGE requested, secure authentication not available");
        return COMMAND_DONE;
    }
    right = command_password((const uint8_t *)password, strlen(password), given, nonce);
    if (nonce != NULL)
        s->nonce[0] = '\0'; /* for one answer only */
    if (!right)
        return session_denied(s, "Access denied");
    s->admin = true;
    s->writable = s->ns != NULL;
    reply_simple(s, "OK");
    return COMMAND_DONE;
}

/* ---- INFO, HELP, HOOKS, STOP ---- */

enum command_result command_info(struct session *s, const struct command_call *call)
{
    char text[4096];
    size_t len = metrics_info(s->worker->server, text, sizeof(text));

    (void)call;
    return reply_bulk(s, text, len) ? COMMAND_DONE : COMMAND_ROOM;
}

enum command_result command_help(struct session *s, const struct command_call *call)
{
    uint64_t count = 0;
    char line[256];

    (void)call;
    for (const struct command *c = command_table; c->name != NULL; c++)
        count++;
    reply_array(s, count);
    for (const struct command *c = command_table; c->name != NULL; c++) {
        int len = snprintf(line, sizeof(line), "%s %s - %s%s", c->name, c->arguments, c->summary,
                           c->flags & COMMAND_ADMIN ? " (administrator)" : "");

        if (!reply_bulk(s, line, (size_t)len))
            return COMMAND_ROOM;
    }
    return COMMAND_DONE;
}

enum command_result command_hooks(struct session *s, const struct command_call *call)
{
    (void)call;
    reply_array(s, 0);
    return COMMAND_DONE;
}

enum command_result command_stop(struct session *s, const struct command_call *call)
{
    (void)call;
#ifdef KVD_DEBUG
    server_stop(s->worker->server);
    reply_simple(s, "Stopping");
    return COMMAND_CLOSE;
#else
    reply_literal(s, "Unauthorized");
    return COMMAND_DONE;
#endif
}

/* ---- WAIT ---- */

enum command_result command_wait(struct session *s, const struct command_call *call)
{
    struct command_bytes word = command_arg(call, 1);
    const struct command *command;
    uint64_t ms = WAIT_DEFAULT_MS;
    char name[32];

    if (s->progress.begun) {
        atomic_fetch_sub(&s->worker->server->waiters, 1);
        s->progress.begun = false;
        if (!s->progress.woken) {
            reply_literal(s, "Timeout");
            return COMMAND_DONE;
        }
        snprintf(name, sizeof(name), "%s", command_table[s->progress.b].name);
        reply_simple(s, name);
        return COMMAND_DONE;
    }
    if (!command_is(word, "*")) {
        command = command_find(word.data, word.len);
        if (command == NULL) {
            reply_literal(s, "Unknown command to watch");
            return COMMAND_DONE;
        }
        s->progress.a = (uint64_t)(command - command_table) + 1; /* 0: any */
    }
    if (command_count(call) == 3 &&
        (command_number(command_arg(call, 2), WAIT_MOST_MS, &ms) < 0 || ms < WAIT_LEAST_MS)) {
        reply_literal(s, "Invalid timeout");
        return COMMAND_DONE;
    }
    s->progress.begun = true;
    s->wait_until = loop_clock() + ms * 1000;
    atomic_fetch_add(&s->worker->server->waiters, 1);
    return COMMAND_WAIT;
}
