/*
 * contlog.h - the records of a container's log, as croft-shim writes and contd reads them.
 *
 * One record a line:  <Unix microseconds> SP ("o" | "e") ("." | "+") SP <bytes without LF> LF
 * "o" standard output, "e" standard error; "+" the line goes on in the next record of that stream, because it was
 * longer than CONTLOG_LINE_MAX. The bytes are the container's own, whatever they are. Files are <8 digits>.log, the
 * highest number is written to, older ones are removed from the lowest on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTLOG_LINE_MAX ((size_t)16 * 1024) /* bytes of text in one record */
#define CONTLOG_HEAD_MAX 32                  /* bytes before the text */
#define CONTLOG_NAME_MAX 16                  /* "00000001.log" and NUL */

struct contlog_record {
    uint64_t time;    /* Unix microseconds */
    bool is_error;    /* standard error */
    bool partial;     /* the line goes on */
    const char *text; /* points into the buffer, not terminated */
    size_t len;
};

/* Writes the head of a record; returns its length (below CONTLOG_HEAD_MAX). */
size_t contlog_head(char head[CONTLOG_HEAD_MAX], uint64_t time, bool is_error, bool partial);
/* Bytes that the first record takes, its LF included; 0: no whole record yet; -EBADMSG: ends in a line that is no
 * record, of which *ret_skip bytes are to be passed over. */
ssize_t contlog_parse(const char *data, size_t len, struct contlog_record *ret_record,
                      size_t *ret_skip);
/* The number of a log file's name, or -1. */
int64_t contlog_number(const char *name);
void contlog_name(char name[CONTLOG_NAME_MAX], uint32_t number);
