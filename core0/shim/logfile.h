/*
 * logfile.h - the files that a container's output goes to: records of lib/contlog.h, rotated, bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/contlog.h"

/* What a container writes faster than the disk takes waits in the pipe; what the disk refuses is dropped and counted. */
struct logfile {
    int dir;           /* descriptor of the folder */
    int fd;            /* current file, -1 while none could be opened */
    uint32_t number;   /* of the current file */
    uint64_t size;     /* bytes in the current file */
    uint64_t max_size; /* bytes of one file */
    unsigned max_files;
    uint64_t dropped; /* bytes that could not be written since the last good write */
};

/* One stream's unfinished line. */
struct logfile_stream {
    bool is_error;
    size_t len;
    char line[CONTLOG_LINE_MAX];
};

/* Goes on with the folder's last file. 0 or -errno; the folder must exist. */
int logfile_open(struct logfile *log, const char *folder, uint64_t max_size, unsigned max_files);
void logfile_close(struct logfile *log);
/* Cuts what was read into records and writes them at once. */
void logfile_feed(struct logfile *log, struct logfile_stream *stream, uint64_t time,
                  const char *data, size_t len);
/* Writes the unfinished rest of a stream as a line. */
void logfile_flush(struct logfile *log, struct logfile_stream *stream, uint64_t time);
