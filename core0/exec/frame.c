/*
 * frame.c - the frames of a session, and what travels on the control channel.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "exec.h"

int frame_append(struct buffer *out, enum channel channel, const void *data, size_t len)
{
    const uint8_t *at = data;

    do {
        size_t part = len < FRAME_MAX ? len : FRAME_MAX;
        uint8_t head[FRAME_HEAD] = {(uint8_t)channel, (uint8_t)(part >> 24), (uint8_t)(part >> 16),
                                    (uint8_t)(part >> 8), (uint8_t)part};
        int ret = buffer_append(out, head, sizeof(head));

        if (ret == 0 && part > 0)
            ret = buffer_append(out, at, part);
        if (ret < 0)
            return ret;
        at += part;
        len -= part;
    } while (len > 0);
    return 0;
}

int frame_parse(const uint8_t *data, size_t len, enum channel *ret_channel, size_t *ret_payload)
{
    if (len > 0 && data[0] >= CHANNEL_COUNT)
        return -EPROTO;
    if (len < FRAME_HEAD)
        return 0;
    size_t payload = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
    if (payload > FRAME_MAX)
        return -EPROTO;
    if (len - FRAME_HEAD < payload)
        return 0;
    *ret_channel = (enum channel)data[0];
    *ret_payload = payload;
    return 1;
}

/* Names as POSIX has them, without SIG. */
static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"KILL", SIGKILL},
    {"USR1", SIGUSR1},     {"USR2", SIGUSR2}, {"ALRM", SIGALRM},   {"TERM", SIGTERM},
    {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"WINCH", SIGWINCH}, {"IO", SIGIO},
    {"VTALRM", SIGVTALRM},
};

static int parse_signal(const char *name, int *ret_signal)
{
    if (name == NULL)
        return -EINVAL;
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (strcmp(signals[i].name, name) == 0) {
            *ret_signal = signals[i].number;
            return 0;
        }
    }
    return -EINVAL;
}

static bool parse_size(yyjson_val *value, unsigned *ret_size)
{
    uint64_t size = yyjson_get_uint(value);

    *ret_size = (unsigned)size;
    return yyjson_is_uint(value) && size > 0 && size <= UINT16_MAX;
}

int control_parse(const char *text, size_t len, struct control *ret_control)
{
    struct control control = {0};
    yyjson_doc *doc = yyjson_read(text, len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *value;
    int ret = -EINVAL;

    if (yyjson_is_obj(root) && yyjson_obj_size(root) == 1) {
        if ((value = yyjson_obj_get(root, "resize")) != NULL) {
            control.kind = CONTROL_RESIZE;
            if (parse_size(yyjson_obj_get(value, "rows"), &control.rows) &&
                parse_size(yyjson_obj_get(value, "columns"), &control.columns))
                ret = 0;
        } else if ((value = yyjson_obj_get(root, "signal")) != NULL) {
            control.kind = CONTROL_SIGNAL;
            ret = parse_signal(yyjson_get_str(value), &control.signal);
        } else if (yyjson_is_true(yyjson_obj_get(root, "eof"))) {
            control.kind = CONTROL_EOF;
            ret = 0;
        }
    }
    yyjson_doc_free(doc);
    if (ret == 0)
        *ret_control = control;
    return ret;
}

static int append_document(struct buffer *out, yyjson_mut_doc *doc)
{
    size_t len;
    char *text = yyjson_mut_write(doc, 0, &len);
    int ret = text != NULL ? frame_append(out, CHANNEL_CONTROL, text, len) : -ENOMEM;

    free(text);
    yyjson_mut_doc_free(doc);
    return ret;
}

static yyjson_mut_doc *new_document(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

int control_append_exit(struct buffer *out, int status)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = new_document(&root);

    yyjson_mut_obj_add_int(doc, root, "exit", status);
    return append_document(out, doc);
}

int control_append_error(struct buffer *out, const struct error *err)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = new_document(&root);
    yyjson_mut_val *error = yyjson_mut_obj_add_obj(doc, root, "error");

    yyjson_mut_obj_add_str(doc, error, "code", err->code);
    yyjson_mut_obj_add_str(doc, error, "message", err->message);
    yyjson_mut_obj_add_str(doc, error, "hint", err->hint);
    return append_document(out, doc);
}
