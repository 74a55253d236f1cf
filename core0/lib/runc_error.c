/*
 * runc_error.c - see runc_error.h.
 */
#include "lib/runc_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yyjson.h>

void runc_error_last(const char *log, size_t len, char *text, size_t size)
{
    const char *end = log + len;

    text[0] = '\0';
    for (const char *line = log; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));

        if (stop == NULL)
            stop = end;
        yyjson_doc *doc = yyjson_read(line, (size_t)(stop - line), 0);
        yyjson_val *root = yyjson_doc_get_root(doc);
        const char *message = yyjson_get_str(yyjson_obj_get(root, "msg"));
        if (message != NULL && yyjson_equals_str(yyjson_obj_get(root, "level"), "error"))
            snprintf(text, size, "%s", message);
        yyjson_doc_free(doc);
        line = stop + 1;
    }
}

/* The first row whose words all stand in the sentence counts. */
static const struct {
    const char *words[2];
    int ret;
    const char *code, *format /* of the program */, *hint;
} rows[] = {
    {{"executable file not found", NULL},
     ENOENT,
     "container.not-found",
     "the image has no program \"%.100s\"",
     "correct command or entrypoint"},
    {{"exec: \"", "no such file or directory"},
     ENOENT,
     "container.not-found",
     "the image has no program \"%.100s\", or its interpreter is missing",
     "correct command or entrypoint"},
    {{"stat ", "no such file or directory"},
     ENOENT,
     "container.not-found",
     "the image has no program \"%.100s\"",
     "correct command or entrypoint"},
    {{"exec: \"", "permission denied"},
     EACCES,
     "container.not-executable",
     "\"%.100s\" may not be executed by the container's user",
     "give the file execute permission in the image"},
    {{"exec: \"", "is a directory"},
     EACCES,
     "container.not-executable",
     "\"%.100s\" is a folder",
     "correct command or entrypoint"},
    {{"exec format error", NULL},
     ENOEXEC,
     "container.not-executable",
     "\"%.100s\" is no program for this machine, or a script without #!",
     "use an x86-64 image"},
    {{"exec /", "no such file or directory"},
     ENOENT,
     "container.not-found",
     "the interpreter of \"%.100s\" is missing in the image",
     "correct the script's first line"},
    {{"chdir to cwd", NULL},
     ENOTDIR,
     "container.bad-directory",
     "the working folder of \"%.100s\" cannot be entered by the container's user",
     "correct workingDir"},
    {{"mkdir", "/rootfs"},
     EACCES,
     "container.bad-rootfs",
     "the root file system of \"%.100s\" cannot be used",
     NULL},
    {{"container init was OOM-killed", NULL},
     ENOMEM,
     "container.oom-killed",
     "the memory limit is too small to start \"%.100s\"",
     "give the service more memory"},
};

void runc_error_translate(const char *text, const char *program, struct error *err)
{
    char message[200];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strstr(text, rows[i].words[0]) == NULL ||
            (rows[i].words[1] != NULL && strstr(text, rows[i].words[1]) == NULL))
            continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* every format is a row of the table above */
        snprintf(message, sizeof(message), rows[i].format, program);
#pragma GCC diagnostic pop
        error_set(err, rows[i].ret, rows[i].code, rows[i].hint, "%s", message);
        return;
    }
    /* The interesting part of runc's chain of words stands at its end. */
    size_t len = strlen(text);
    error_set(err, EIO, "container.start-failed", "look at contd's log",
              "the runtime could not start it: %s", len > 220 ? text + len - 220 : text);
}
