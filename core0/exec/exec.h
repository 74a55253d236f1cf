/*
 * exec.h - croft-exec: one program that a tenant runs in a container, and its bytes. Started by contd for one caller.
 *
 * It stands between contd and the program as croft-shim does, so that contd may be replaced meanwhile. The program gets a cgroup of
 * its own below its container's, and when the session ends, for whatever reason, all that it started is killed with it.
 *
 * Frames on the socket: channel (1 byte), length (4 bytes, big-endian), payload; see org.croft.container.Exec.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buffer.h"
#include "lib/error.h"

#define FRAME_HEAD 5
#define FRAME_MAX ((size_t)64 << 10) /* bytes of payload */

enum channel { CHANNEL_IN, CHANNEL_OUT, CHANNEL_ERR, CHANNEL_CONTROL, CHANNEL_COUNT };

struct options {
    const char *
        base; /* /run/croft/exec/<session>: files are <base>.sock, .json, .log, .pid, .tty, .lock */
    const char *name;   /* of the session's cgroup */
    const char *cgroup; /* the container's, as a folder */
    const char *runc, *root, *id;
    const char *program;               /* argv[0], for sentences */
    const char *code, *message, *hint; /* what went wrong before: only to be told */
    uid_t peer;                        /* who may connect, beside root */
    uid_t uid;                         /* the program's user, as the host sees it */
    gid_t gid;
    bool tty;
};

/* ---- frame.c ---- */
/* Appends a frame, or several when len is more than one holds. 0, -ENOMEM, -EFBIG. */
int frame_append(struct buffer *out, enum channel channel, const void *data, size_t len);
/* 1: a whole frame begins at data; 0: more bytes are needed; -EPROTO: unknown channel or too long. */
int frame_parse(const uint8_t *data, size_t len, enum channel *ret_channel, size_t *ret_payload);

enum control_kind { CONTROL_RESIZE, CONTROL_SIGNAL, CONTROL_EOF };
struct control {
    enum control_kind kind;
    unsigned rows, columns; /* 1 to 65,535 */
    int signal;
};
/* What the caller may say on the control channel. -EINVAL: something else. */
int control_parse(const char *text, size_t len, struct control *ret_control);
int control_append_exit(struct buffer *out, int status);
int control_append_error(struct buffer *out, const struct error *err);

/* ---- start.c ---- */
struct child {
    pid_t pid;
    int in, out, err; /* our ends, non-blocking; with a terminal all is `in` and out, err are -1 */
};
/* Starts the program in the container; blocks until runc has. *err is set on failure, and nothing runs. */
int child_start(const struct options *opt, struct child *ret_child, struct error *err);
void child_path(const struct options *opt, const char *suffix, char path[256]);
/* The folder of the session's cgroup. */
void child_cgroup(const struct options *opt, char path[512]);

/* ---- session.c ---- */
/* Carries bytes until the program has ended or the caller is gone; kills what is left. Returns the process's own exit status. */
int session_run(const struct options *opt, int peer);
