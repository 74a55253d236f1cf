/*
 * logloss.c - see logloss.h.
 *
 * Nothing is counted beside the log: its files are numbered from 1 on and removed from the lowest on, so the lowest number that is
 * there says how many are gone, and the first record in it since when there is any. That survives a restart of whoever asks.
 */
#include "container/logloss.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "lib/contlog.h"
#include "lib/file.h"

/* 0: the folder has no log file. */
static uint32_t lowest_file(DIR *dir)
{
    struct dirent *entry;
    uint32_t lowest = 0;

    while ((entry = readdir(dir)) != NULL) {
        int64_t number = contlog_number(entry->d_name);

        if (number > 0 && (lowest == 0 || number < lowest))
            lowest = (uint32_t)number;
    }
    return lowest;
}

/* When the first record of a file was written; 0: it has none. */
static uint64_t first_time(int dirfd, uint32_t number)
{
    static char data[2 * (CONTLOG_LINE_MAX + CONTLOG_HEAD_MAX)];
    struct contlog_record record;
    char name[CONTLOG_NAME_MAX];

    contlog_name(name, number);
    cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t len = fd >= 0 ? pread(fd, data, sizeof(data), 0) : -1;

    for (size_t at = 0; len > 0 && at < (size_t)len;) {
        size_t skip = 0;
        ssize_t n = contlog_parse(data + at, (size_t)len - at, &record, &skip);

        if (n > 0)
            return record.time;
        if (n == 0)
            break;
        at += skip;
    }
    return 0;
}

bool logloss_seen(const char *folder, uint64_t now, uint64_t file_size, struct error *ret_reason)
{
    DIR *dir = opendir(folder);

    if (dir == NULL)
        return false;
    uint32_t lowest = lowest_file(dir);
    uint64_t since = lowest > 1 ? first_time(dirfd(dir), lowest) : 0;

    closedir(dir);
    if (since == 0)
        return false;
    /* The clock may have been set back. */
    uint64_t age = now > since ? now - since : 0;
    if (age >= LOGLOSS_KEPT_US)
        return false;
    error_set(ret_reason, ENOSPC, "container.log-rotated", "let the service write less",
              "it writes so much that its log reaches %" PRIu64 " s back; about %" PRIu64
              " MiB before that are gone",
              age / 1000000, (lowest - 1) * file_size >> 20);
    return true;
}
