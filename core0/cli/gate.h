/*
 * gate.h - a node's gate, as a client sees it: which address answers with the registered key, the challenge of each call, and
 * the calls themselves (docs/formats.md, section 13).
 *
 * Error codes: gate.unreachable, gate.timeout, gate.wrong-key, gate.wrong-challenge, gate.bad-answer, gate.lost, and what the
 * gate itself answers with.
 */
#pragma once

#include "cli/node.h"
#include "lib/http/client.h"
#include "lib/http/ws.h"

#define GATE_URL_MAX 300
#define GATE_HEADER_MAX 256
#define GATE_AT_MAX 40 /* a place in a log, as text */
#define GATE_OPTION                                                                                \
    {                                                                                              \
        "--gate", "HOST:PORT", "where the node's gate answers, behind a forward (CROFT_GATE)"      \
    }

struct gate {
    const struct cli *cli;
    const struct grid *grid; /* with a key */
    struct node_record node;
    uint64_t reservation; /* 0: the node itself, by its farmer */
    struct http_client *http;
    char urls[NODE_ADDRESSES_MAX][GATE_URL_MAX]; /* "https://host:port" */
    size_t url_count;
    uint64_t patience_us; /* until the first address has answered */
    uint64_t answer_us;   /* for an answer that is no stream */
};

/* Reads the node's record and finds out where to ask. Nothing is sent to the node yet. */
int gate_init(struct gate *gate, const struct cli *cli, const struct grid *grid, uint64_t node,
              uint64_t reservation, struct error *err);
void gate_done(struct gate *gate);

/* Gets a challenge and signs it for one call of `method`: "Authorization: …". The first time all addresses are tried; the
 * one that answers first is gate->urls[0] afterwards, and the only one. */
int gate_authorize(struct gate *gate, const char *method, char ret_header[GATE_HEADER_MAX],
                   struct error *err);
/* One call with a JSON answer. body NULL: GET. Free with yyjson_doc_free. */
int gate_call(struct gate *gate, const char *method, const char *path, const char *body,
              yyjson_doc **ret_answer, struct error *err);
/* One call whose body is handed to `data` piece by piece for as long as it takes. 0: it came to its proper end. quiet_us:
 * without a byte for that long it is lost. However it ends, *ret_start tells how it began. */
struct gate_start {
    bool begun;           /* the gate had agreed, and a stream began */
    char at[GATE_AT_MAX]; /* where in a log, if it says so; else "" */
};
int gate_stream(struct gate *gate, const char *method, const char *path, uint64_t quiet_us,
                http_data_fn *data, void *user, struct gate_start *ret_start, struct error *err);
/* "host:port" of the address in use. */
const char *gate_address(const struct gate *gate);

/* A refusal's body, or what stands in its header: code, message and hint become *err, with whatever a terminal would obey
 * spelled out. What is no refusal becomes gate.bad-answer with the status in it. Returns a negative errno. */
int gate_refusal(int status, const char *text, size_t len, struct error *err);

/* gate_url.c: "name=value" behind '?' or '&', percent-encoded (RFC 3986). */
int gate_query(struct buffer *path, const char *name, const char *value);
int gate_query_uint(struct buffer *path, const char *name, uint64_t value);
/* The URL of a gate at a registered host (an IP address or a name). -EINVAL when it is neither. */
int gate_url_of_host(const char *host, char ret_url[GATE_URL_MAX]);
/* The same of "host:port" or "[address]:port". -EINVAL */
int gate_url_of_option(const char *text, char ret_url[GATE_URL_MAX]);
