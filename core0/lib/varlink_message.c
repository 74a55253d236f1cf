/*
 * varlink_message.c - see varlink_message.h.
 */
#include "lib/varlink_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define VARLINK_READ_STEP 4096u
#define VARLINK_KEEP (16u << 10) /* bytes that an idle buffer keeps */

int varlink_address(const char *path, struct sockaddr_un *ret_addr)
{
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(ret_addr->sun_path))
        return -ENAMETOOLONG;
    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_addr->sun_path, path, len + 1);
    return 0;
}

static int varlink_write_doc(struct buffer *out, yyjson_mut_doc *doc)
{
    size_t len = 0;
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, &len);
    int ret;

    if (text == NULL)
        return -EILSEQ;                      /* a string that is no UTF-8, or no memory */
    ret = buffer_append(out, text, len + 1); /* with the NUL byte that ends a message */
    free(text);
    return ret;
}

int varlink_message_append(struct buffer *out, const struct varlink_members *members,
                           yyjson_mut_doc *parameters)
{
    yyjson_mut_doc *doc = parameters != NULL ? parameters : yyjson_mut_doc_new(NULL);
    yyjson_mut_val *wrapper = yyjson_mut_obj(doc);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    int ret = -ENOMEM;

    if (root == NULL)
        root = yyjson_mut_obj(doc);
    if (wrapper == NULL || root == NULL)
        goto out;
    if (members->method != NULL)
        yyjson_mut_obj_add_str(doc, wrapper, "method", members->method);
    if (members->error != NULL)
        yyjson_mut_obj_add_str(doc, wrapper, "error", members->error);
    yyjson_mut_obj_add_val(doc, wrapper, "parameters", root);
    if (members->more)
        yyjson_mut_obj_add_bool(doc, wrapper, "more", true);
    if (members->continues)
        yyjson_mut_obj_add_bool(doc, wrapper, "continues", true);
    yyjson_mut_doc_set_root(doc, wrapper);
    ret = varlink_write_doc(out, doc);
out:
    yyjson_mut_doc_free(doc);
    return ret;
}

int varlink_receive(int fd, struct buffer *in)
{
    size_t room;
    ssize_t got;
    int ret;

    /* A larger step while a large message comes in; a small one for the usual short call. */
    room = in->len < VARLINK_READ_STEP ? VARLINK_READ_STEP : in->len;
    if (room > in->max - in->len)
        room = in->max - in->len;
    if (room == 0)
        return -EFBIG;
    ret = buffer_reserve(in, room);
    if (ret < 0)
        return ret;
    got = recv(fd, in->data + in->len, room, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (got == 0)
        return -ECONNRESET;
    in->len += (size_t)got;
    in->data[in->len] = '\0';
    return 1;
}

int varlink_send(int fd, struct buffer *out)
{
    size_t sent = 0;
    int ret = 0;

    while (sent < out->len) {
        ssize_t done = send(fd, out->data + sent, out->len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (done >= 0) {
            sent += (size_t)done;
            continue;
        }
        if (errno == EINTR)
            continue;
        ret = errno == EAGAIN ? 1 : -errno;
        break;
    }
    buffer_consume(out, sent);
    if (ret == 0)
        varlink_shrink(out);
    return ret;
}

void varlink_shrink(struct buffer *buf)
{
    if (buf->len == 0 && buf->capacity > VARLINK_KEEP)
        buffer_done(buf);
}

/* The standard errors of org.varlink.service in our own words. */
static const struct {
    const char *name;
    const char *code;
    const char *member; /* of the parameters, to be named in the message */
    const char *message;
} varlink_standard_errors[] = {
    {"org.varlink.service.InterfaceNotFound", "varlink.interface-not-found", "interface",
     "the program has no interface"},
    {"org.varlink.service.MethodNotFound", "varlink.method-not-found", "method",
     "the program has no method"},
    {"org.varlink.service.MethodNotImplemented", "varlink.method-not-implemented", "method",
     "the program does not implement"},
    {"org.varlink.service.InvalidParameter", "varlink.invalid-parameter", "parameter",
     "a parameter is missing or wrong:"},
    {"org.varlink.service.PermissionDenied", "varlink.permission-denied", NULL,
     "the caller may not call this method"},
    {"org.varlink.service.ExpectedMore", "varlink.expected-more", NULL,
     "the method answers more than once and must be called so"},
};

static const char *varlink_get_str(yyjson_val *object, const char *name)
{
    const char *str = yyjson_get_str(yyjson_obj_get(object, name));

    return str != NULL ? str : "";
}

int varlink_error_from_reply(const char *name, yyjson_val *parameters, struct error *err)
{
    const char *dot = strrchr(name, '.');
    const char *code = varlink_get_str(parameters, "code");

    if (dot != NULL && strcmp(dot, ".Failed") == 0 && code[0] != '\0')
        return error_set(err, EREMOTEIO, code, varlink_get_str(parameters, "hint"), "%s",
                         varlink_get_str(parameters, "message"));
    for (size_t i = 0; i < sizeof(varlink_standard_errors) / sizeof(varlink_standard_errors[0]);
         i++) {
        const char *member = varlink_standard_errors[i].member;

        if (strcmp(varlink_standard_errors[i].name, name) == 0)
            return error_set(err, EREMOTEIO, varlink_standard_errors[i].code, NULL, "%s%s%s",
                             varlink_standard_errors[i].message, member != NULL ? " " : "",
                             member != NULL ? varlink_get_str(parameters, member) : "");
    }
    return error_set(err, EREMOTEIO, "varlink.error", NULL, "the program answered %s", name);
}
