/*
 * gate.h - gated: a node's only remote listener. What its parts share.
 *
 *   TLS connection ─► HTTP request ─► row of the table (method.c) ─► challenge taken, signature recovered (access.c)
 *                                                                          │ role: tenant or farmer, by what provd has proved
 *                                                                          ▼
 *                                                   handler: logs, exec, status, restart, node, node log
 *
 * It owns nothing and decides little: every answer is another daemon's, asked over varlink, and each of those lets gated call only what
 * docs/services.md names. No callback of ours blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <yyjson.h>

#include "challenge.h"
#include "lib/daemon.h"
#include "lib/error.h"
#include "lib/grid/access.h"
#include "lib/http/server.h"
#include "lib/loop.h"
#include "lib/varlink.h"
#include "query.h"

#define SERVICE_NAME_MAX 63
#define SERVICES_MAX 128 /* of a reservation, in a sentence about them */
/* Of a log that is followed: the place from which it is read, as "at" in its entries. For one who is cut off before the first line. */
#define GATE_AT_HEADER "Croft-Log-At"

enum role { ROLE_TENANT, ROLE_FARMER };

struct gate;
struct request;
struct follower;
struct tap;
struct node_log;
struct exec;

/* A row of the table method × role. */
struct gate_method {
    const char *name; /* what the caller signs: "logs" */
    const char *http; /* "GET" or "POST" */
    const char *path;
    enum role role;
    bool service;                  /* about one service of the reservation, which is found first */
    const char *const *parameters; /* of the query, ended by NULL */
    void (*handler)(struct request *request);
};

/* One call of a caller who was let in, or is being looked at. Freed by the last reply or by its end. */
struct request {
    struct gate *gate;
    struct http_exchange *exchange; /* NULL: the peer is gone */
    const struct gate_method *method;
    struct query query;
    yyjson_doc *body;
    struct grid_challenge challenge;
    uint8_t address[20];
    struct varlink_client *client; /* of the call that is under way, which is one at most */
    void (*fn)(struct request *request, yyjson_val *parameters); /* its reply's */
    yyjson_mut_doc *answer;                                      /* what is being collected */
    bool optional;                                               /* its failure is fn's to see */
    unsigned step;                                               /* of it */
    uint64_t revision;
    uint64_t after; /* of the query: a position in the log of that revision; 0: none */
    char service[SERVICE_NAME_MAX + 1];
};

/* What noded said last. */
struct gate_node {
    uint64_t id, chain_id;
    uint8_t reservations[20];
};

struct gate_options {
    const char *run;  /* /run/croft: the daemons' sockets */
    const char *host; /* where to listen; NULL: everywhere */
    const char *port;
};

struct gate {
    struct loop *loop;
    struct daemon *daemon;
    struct gate_options opt;
    struct http_server *server;
    struct gate_tls *tls;
    struct challenge_store *challenges;
    struct gate_node node;
    bool has_farmer; /* of the node's farm, as provd said last that it is proved */
    uint8_t farmer[20];
    struct varlink_client *noded; /* asked at the start and for every challenge */
    struct loop_timer *start_timer;
    /* logs.c */
    struct varlink_client *logs;
    struct follower *followers;
    struct tap *taps;
    struct loop_timer *keep_alive;
    unsigned follower_count;
    struct node_log *node_logs; /* node.c */
    struct exec *execs;         /* exec.c */
    unsigned exec_count;
};

/* ---- main.c ---- */
/* Takes over what noded's GetStatus says. False: the node is not registered, or not known yet. */
bool gate_learn(struct gate *gate, yyjson_val *status);

/* ---- request.c ---- */
void request_handle(struct http_exchange *exchange, void *gate);
/* Answers with {"code","message","hint"} and the HTTP status of the code, and frees. */
void request_fail(struct request *request, const struct error *err);
__attribute__((format(printf, 4, 5))) void request_fail_with(struct request *request,
                                                             const char *code, const char *hint,
                                                             const char *fmt, ...);
/* 200 with the document, which is consumed, and frees. */
void request_reply(struct request *request, yyjson_mut_doc *doc);
/* Calls another daemon for this request; parameters is consumed. fn is called unless the peer goes away first; a failure that fn does not
 * want to see (err) is answered by request_fail(). */
typedef void request_fn(struct request *request, yyjson_val *parameters);
void request_call(struct request *request, const char *program, const char *method,
                  yyjson_mut_doc *parameters, request_fn *fn);
/* The same for what the answer can do without: when it fails, fn gets NULL, and soon. */
void request_call_if_there(struct request *request, const char *program, const char *method,
                           request_fn *fn);
/* The exchange goes its own way (a stream, exec): frees the rest. */
struct http_exchange *request_detach(struct request *request);
void request_free(struct request *request);
int gate_status_of(const char *code); /* HTTP status */

/* ---- access.c ---- */
void access_challenge(struct request *request);
/* Finds out who calls; then, for a method about a service, which; then calls the method's handler. */
void access_check(struct request *request, const char *authorization);

/* ---- logs.c ---- */
int logs_start(struct gate *gate);
void logs_handle(struct request *request);

/* ---- exec.c, node.c, status.c ---- */
void exec_handle(struct request *request);
void status_handle(struct request *request);
void restart_handle(struct request *request);
void node_handle(struct request *request);
void node_log_handle(struct request *request);

/* ---- method.c ---- */
/* NULL: no such path; *ret_known_path: it is there under another HTTP method. */
const struct gate_method *method_find(const char *http, const char *path, bool *ret_known_path);

/* ---- tls.c ---- */
struct gate_tls;
/* key: 64 hex of the P-256 key; the certificate signs itself. Error code gate.tls. */
int gate_tls_new(const char *key, struct gate_tls **ret_tls, struct error *err);
/* The node's certificate in PEM, as text to be freed; NULL: no memory. */
char *gate_tls_certificate(const struct gate_tls *tls);
void gate_tls_free(struct gate_tls *tls);
mbedtls_ssl_context *gate_tls_session(void *tls); /* for http_server_set_tls() */

/* ---- helpers ---- */
/* {} to be filled. */
yyjson_mut_doc *gate_parameters(yyjson_mut_val **ret_root);
/* {"reservation","revision","service"} of the request. */
yyjson_mut_doc *gate_instance(const struct request *request, yyjson_mut_val **ret_root);
