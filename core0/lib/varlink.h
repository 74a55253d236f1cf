/*
 * varlink.h - varlink (https://varlink.org) over Unix sockets: server and client.
 *
 * Messages are JSON ended by NUL. Our interfaces have one error, `<interface>.Failed (code, message, hint)`.
 * org.varlink.service (GetInfo, GetInterfaceDescription and its standard errors) is answered by the server itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <yyjson.h>

#include "lib/error.h"
#include "lib/loop.h"

#define VARLINK_MESSAGE_MAX ((size_t)16 << 20) /* bytes of one message */
#define VARLINK_CONNECTIONS_MAX 256            /* per server; one more is closed at once */

struct varlink_server;
struct varlink_call;
struct varlink_client;

/* params is an object (never NULL). Exactly one final reply or error must follow, now or later. */
typedef void varlink_method_fn(struct varlink_call *call, yyjson_val *params, void *data);

struct varlink_method {
    const char *name; /* "org.croft.net.GetStatus" */
    varlink_method_fn *fn;
    /* Who may call: uids ended by VARLINK_UID_END; NULL: root and the server's own uid. 0 is always allowed. */
    const uid_t *callers;
};
#define VARLINK_UID_END ((uid_t)-1)
#define VARLINK_UID_ANY ((uid_t)-2) /* anybody who can open the socket */

struct varlink_interface {
    const char *name;        /* "org.croft.net" */
    const char *description; /* text of the .varlink file (gen/interfaces.h) */
    const struct varlink_method *methods;
    size_t method_count;
};

/* product and version are what GetInfo says. interfaces must outlive the server. */
int varlink_server_new(struct loop *loop, const char *product, const char *version,
                       const struct varlink_interface *interfaces, size_t count, void *data,
                       struct varlink_server **ret_server);
/* Binds path (replacing a dead socket; folders are made), mode as given. */
int varlink_server_listen(struct varlink_server *server, const char *path, mode_t mode,
                          struct error *err);
/* Only the listening socket, as the above makes it: its descriptor or -errno. */
int varlink_listen(const char *path, mode_t mode, struct error *err);
int varlink_server_add_fd(struct varlink_server *server,
                          int listen_fd); /* takes the descriptor over */
void varlink_server_free(struct varlink_server *server);

/* Bytes that one message of a caller may have; VARLINK_MESSAGE_MAX unless set. */
void varlink_server_set_message_max(struct varlink_server *server, size_t max);

/*
 * A call lives until its final reply. If the peer goes away first, on_gone is called (once) and the call is freed
 * after it. Without on_gone the call stays valid until its final reply, which then goes nowhere.
 * The parameters given to the method stay valid as long as the call, and at least until the method returns.
 */
uid_t varlink_call_uid(const struct varlink_call *call);
bool varlink_call_wants_more(const struct varlink_call *call);
void varlink_call_set_gone(struct varlink_call *call,
                           void (*on_gone)(struct varlink_call *, void *), void *data);
/* parameters: an object of a mutable document that is consumed (freed); NULL: {}. Final. */
void varlink_call_reply(struct varlink_call *call, yyjson_mut_doc *parameters);
/* "continues": true. Only after varlink_call_wants_more. -EAGAIN when more than 1 MiB waits to be read by the peer. */
int varlink_call_reply_more(struct varlink_call *call, yyjson_mut_doc *parameters);
/* Any error by its full name; parameters as in varlink_call_reply. Final. */
void varlink_call_error(struct varlink_call *call, const char *name, yyjson_mut_doc *parameters);
/* <interface of the call>.Failed; final. */
void varlink_call_fail(struct varlink_call *call, const struct error *err);
/* org.varlink.service.InvalidParameter; final. */
void varlink_call_invalid(struct varlink_call *call, const char *parameter);

/* ---- client ---- */

/* parameters NULL after an error; err is set then (code "varlink.lost" when the connection died,
 * "varlink.timeout" when the deadline passed). `more`: further answers follow. */
typedef void varlink_reply_fn(yyjson_val *parameters, const struct error *err, bool more,
                              void *data);

/* Connects lazily at the first call, again after a loss; calls under way at a loss are answered with varlink.lost.
 * A connection that cannot be made is a loss too: the callback hears of it in the next turn. */
int varlink_client_new(struct loop *loop, const char *path, struct varlink_client **ret_client);
void varlink_client_free(struct varlink_client *client); /* pending callbacks are not called */
#define VARLINK_MORE 1u
#define VARLINK_PENDING_MAX 1024u /* calls under way per client; one more is -ENOBUFS */
/* parameters is consumed (NULL: {}), on failure too. timeout_us 0: none; what comes after the time-out is dropped. Pipelined: answers come in order of the calls;
 * a call with VARLINK_MORE wants a client of its own. */
int varlink_client_call(struct varlink_client *client, const char *method,
                        yyjson_mut_doc *parameters, unsigned flags, uint64_t timeout_us,
                        varlink_reply_fn *fn, void *data);

/* Blocking call for command-line programs and tests. An error reply is an error (-EREMOTEIO; the code is the peer's). ret_reply (the whole message; "parameters" inside) is freed with yyjson_doc_free. */
int varlink_call_blocking(const char *path, const char *method, yyjson_mut_doc *parameters,
                          int timeout_ms, yyjson_doc **ret_reply, struct error *err);
