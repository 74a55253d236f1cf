/*
 * varlink_message.h - what server and client share: framing, errors on the wire. Private to lib/varlink_*.c.
 */
#pragma once

#include "lib/buffer.h"
#include "lib/varlink.h"

struct sockaddr_un;

/* -ENAMETOOLONG when the path does not fit. */
int varlink_address(const char *path, struct sockaddr_un *ret_addr);

/*
 * Appends the message {"parameters":…,<more members that the caller put into wrapper>} and its NUL byte.
 * `parameters` is a document whose root becomes the member (NULL: {}); it is consumed. `add` adds the other
 * members to the wrapper.
 */
struct varlink_members {
    const char *method; /* each NULL or false: absent */
    const char *error;
    bool more;
    bool continues;
};
int varlink_message_append(struct buffer *out, const struct varlink_members *members,
                           yyjson_mut_doc *parameters);

/* Reads what is there: 1 = something came, 0 = nothing now, -ECONNRESET = end of stream, -EFBIG, -errno. */
int varlink_receive(int fd, struct buffer *in);
/* Writes what the peer takes: 0 = all written, 1 = some is left, -errno. */
int varlink_send(int fd, struct buffer *out);
/* Gives memory back that one large message took. */
void varlink_shrink(struct buffer *buf);

/* Makes err from an error reply. `name` is the wire's error name. */
int varlink_error_from_reply(const char *name, yyjson_val *parameters, struct error *err);

/* What a server says of itself; varlink_service.c answers with it. */
struct varlink_identity {
    const char *product;
    const char *version;
    const struct varlink_interface *interfaces;
    size_t interface_count;
};

void varlink_get_info(const struct varlink_identity *server, struct varlink_call *call);
void varlink_get_description(const struct varlink_identity *server, struct varlink_call *call,
                             yyjson_val *params);
/* An error with one string member; final. */
void varlink_call_error_str(struct varlink_call *call, const char *name, const char *member,
                            const char *value);
