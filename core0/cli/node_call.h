/*
 * node_call.h - verbs about the node that the command line itself runs on: they ask a daemon over its socket.
 *
 * The daemon is at /run/croft/<program> unless --socket names another path. A verb is a row whose options have
 * NODE_CALL_OPTION, and mostly a function of one statement:
 *
 *   static int list(struct cli *cli, struct error *err)
 *   {
 *       return node_call_show(cli, "storaged", "org.croft.storage.GetStatus", NULL, "disks", err);
 *   }
 */
#pragma once

#include "cli/verbs.h"

/* The row of --socket in a verb's options. */
#define NODE_CALL_OPTION                                                                           \
    {                                                                                              \
        "--socket", "PATH", "the daemon's socket, where it is not in /run/croft"                   \
    }

/* Longest that a daemon may take. Making a file system on a large disk is what takes long. */
#define NODE_CALL_TIMEOUT_MS (330 * 1000)

/*
 * Calls a method, by its full name, of the daemon `program`. parameters (NULL: none) are consumed, on failure too.
 * *ret_reply is the whole message, its "parameters" inside are what node_call_parameters() gives; yyjson_doc_free().
 * The daemon's refusal comes with its own code; cli.no-daemon when nobody listens there, varlink.lost and
 * varlink.timeout when no answer came.
 */
int node_call(const struct cli *cli, const char *program, const char *method,
              yyjson_mut_doc *parameters, yyjson_doc **ret_reply, struct error *err);
/* An object, or NULL where the daemon answered nothing. Lives as long as the reply. */
yyjson_val *node_call_parameters(yyjson_doc *reply);
/* Calls and prints what came back: the whole answer (member NULL) or that member of it. varlink.message: it has none. */
int node_call_show(const struct cli *cli, const char *program, const char *method,
                   yyjson_mut_doc *parameters, const char *member, struct error *err);
