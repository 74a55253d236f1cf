/*
 * logfile.c - see logfile.h.
 */
#include "shim/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Records of one turn are collected and written together: a write per line would cost a system call per line. */
static char batch[128 * 1024];
static size_t batch_len;

/* ---- files ---- */

/* Lowest and highest number in the folder; -1 when there is none. */
static void logfile_range(int dir, int64_t *ret_low, int64_t *ret_high)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    *ret_low = *ret_high = -1;
    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        int64_t number = contlog_number(entry->d_name);

        if (number < 0)
            continue;
        if (*ret_low < 0 || number < *ret_low)
            *ret_low = number;
        if (number > *ret_high)
            *ret_high = number;
    }
    closedir(folder);
}

static void logfile_prune(struct logfile *log)
{
    int64_t low, high;
    char name[CONTLOG_NAME_MAX];

    logfile_range(log->dir, &low, &high);
    for (; low >= 0 && low + (int64_t)log->max_files <= (int64_t)log->number; low++) {
        contlog_name(name, (uint32_t)low);
        unlinkat(log->dir, name, 0);
    }
}

static int logfile_use(struct logfile *log, uint32_t number)
{
    char name[CONTLOG_NAME_MAX];
    struct stat st;

    contlog_name(name, number);
    int fd = openat(log->dir, name, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        int ret = -errno;

        close(fd);
        return ret;
    }
    if (log->fd >= 0)
        close(log->fd);
    log->fd = fd;
    log->number = number;
    log->size = (uint64_t)st.st_size;
    return 0;
}

int logfile_open(struct logfile *log, const char *folder, uint64_t max_size, unsigned max_files)
{
    int64_t low, high;
    char last;

    *log = (struct logfile){
        .fd = -1, .max_size = max_size, .max_files = max_files > 0 ? max_files : 1};
    log->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->dir < 0)
        return -errno;
    logfile_range(log->dir, &low, &high);
    int ret = logfile_use(log, high >= 0 ? (uint32_t)high : 1);
    if (ret < 0)
        return ret;
    /* A predecessor that was killed while it wrote left half a record: it ends here. */
    if (log->size > 0 && pread(log->fd, &last, 1, (off_t)log->size - 1) == 1 && last != '\n' &&
        write(log->fd, "\n", 1) == 1)
        log->size++;
    return 0;
}

void logfile_close(struct logfile *log)
{
    if (log->fd >= 0)
        close(log->fd);
    if (log->dir >= 0)
        close(log->dir);
    log->fd = log->dir = -1;
}

/* ---- records ---- */

static void batch_write(struct logfile *log)
{
    size_t done = 0;

    if (batch_len == 0)
        return;
    if (log->fd < 0)
        logfile_use(log, log->number > 0 ? log->number : 1);
    else if (log->size > 0 && log->size + batch_len > log->max_size &&
             logfile_use(log, log->number + 1) == 0)
        logfile_prune(log);
    while (done < batch_len) {
        ssize_t n = write(log->fd, batch + done, batch_len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (done > 0 && done < batch_len && batch[done - 1] != '\n') {
        /* Half a record would be glued to the next one: take it back. */
        while (done > 0 && batch[done - 1] != '\n')
            done--;
        (void)!ftruncate(log->fd, (off_t)(log->size + done));
    }
    log->size += done;
    log->dropped += batch_len - done;
    batch_len = 0;
}

static void batch_add(struct logfile *log, uint64_t time, bool is_error, bool partial,
                      const char *text, size_t len)
{
    if (batch_len + CONTLOG_HEAD_MAX + len + 1 > sizeof(batch))
        batch_write(log);
    batch_len += contlog_head(batch + batch_len, time, is_error, partial);
    memcpy(batch + batch_len, text, len);
    batch_len += len;
    batch[batch_len++] = '\n';
}

/* What the disk refused is said once it takes something again. */
static void batch_add_dropped(struct logfile *log, uint64_t time)
{
    char text[96];

    if (log->dropped == 0)
        return;
    int len = snprintf(text, sizeof(text), "[croft: %llu bytes of log were lost: no space]",
                       (unsigned long long)log->dropped);
    log->dropped = 0;
    batch_add(log, time, true, false, text, (size_t)len);
}

void logfile_feed(struct logfile *log, struct logfile_stream *stream, uint64_t time,
                  const char *data, size_t len)
{
    batch_add_dropped(log, time);
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t take = end != NULL ? (size_t)(end - data) : len;
        size_t room = sizeof(stream->line) - stream->len;
        bool whole = end != NULL && take <= room;

        if (take > room)
            take = room;
        if (whole && stream->len == 0) {
            batch_add(log, time, stream->is_error, false, data, take);
        } else {
            memcpy(stream->line + stream->len, data, take);
            stream->len += take;
            if (whole || stream->len == sizeof(stream->line)) {
                batch_add(log, time, stream->is_error, !whole, stream->line, stream->len);
                stream->len = 0;
            }
        }
        data += take + (whole ? 1 : 0);
        len -= take + (whole ? 1 : 0);
    }
    batch_write(log);
}

void logfile_flush(struct logfile *log, struct logfile_stream *stream, uint64_t time)
{
    if (stream->len > 0)
        batch_add(log, time, stream->is_error, false, stream->line, stream->len);
    stream->len = 0;
    batch_write(log);
}
