/*
 * logs.c - GetLog: the records of one instance, from its files; with follow, as they are written.
 *
 * A reader is a place in the files (number, offset) that moves only when its lines were handed over, so a slow caller
 * loses nothing and costs no memory. Following waits for the kernel's word that the folder changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/contd.h"
#include "lib/contlog.h"
#include "lib/file.h"
#include "lib/json.h"

#define CHUNK ((size_t)256 << 10)     /* bytes of log per answer */
#define WHOLE_MAX ((uint64_t)4 << 20) /* bytes of log without "more": the newest */
#define READERS_MAX 192
#define PAGE_MIN ((size_t)64 << 10) /* bytes of log: a page holds the longest record */
#define OFFSET_BITS 26              /* of a position; what is above is the file's number */
#define RETRY_US UINT64_C(50000)    /* the caller has a megabyte to read first */
#define FILE_BYTES_MAX ((uint64_t)64 << 20)

struct log_reader {
    struct log_reader *next;
    struct contd *contd;
    struct varlink_call *call;
    struct instance_key key;
    bool follow;
    bool done; /* all files read to their end, at the last look */
    uint64_t since;
    int dir;
    uint32_t number;
    uint64_t offset;
    int watch; /* of contd->log_inotify, shared by all readers of the folder; -1: none */
    struct loop_timer *timer;
};

static uint64_t position_of(uint32_t number, uint64_t offset)
{
    return (uint64_t)number << OFFSET_BITS | offset;
}

/* ---- files ---- */

/* The lowest number not below `from`; 0: none. */
static uint32_t next_file(int dirfd, uint32_t from)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    uint32_t found = 0;

    if (dir == NULL && fd >= 0)
        close(fd);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        int64_t number = contlog_number(entry->d_name);

        if (number > 0 && number >= from && (found == 0 || number < found))
            found = (uint32_t)number;
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static int open_file(int dirfd, uint32_t number)
{
    char name[CONTLOG_NAME_MAX];

    contlog_name(name, number);
    return openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Bytes from the end of a file that hold `lines` lines, or all of it; *lines is what is still missing. */
static uint64_t tail_of(int fd, uint64_t size, int64_t *lines)
{
    char block[16384];
    uint64_t at = size;

    while (at > 0) {
        size_t take = at < sizeof(block) ? (size_t)at : sizeof(block);
        ssize_t n = pread(fd, block, take, (off_t)(at - take));

        if (n != (ssize_t)take)
            break;
        for (size_t i = take; i > 0; i--) {
            if (block[i - 1] != '\n' || at - take + i == size)
                continue;
            if (--*lines == 0)
                return size - (at - take + i);
        }
        at -= take;
    }
    /* The first line of a file has no line end before it. */
    if (size > 0 && --*lines == 0)
        return size;
    return size;
}

/* Sets the place where `tail` lines, or `bytes` bytes, from the end begin. */
static void seek_back(struct log_reader *reader, int64_t tail, uint64_t bytes)
{
    uint32_t numbers[64];
    size_t count = 0;
    uint64_t total = 0;

    for (uint32_t n = next_file(reader->dir, 1); n != 0 && count < 64;
         n = next_file(reader->dir, n + 1))
        numbers[count++] = n;
    while (count > 0) {
        struct stat st;
        cleanup_close int fd = open_file(reader->dir, numbers[--count]);

        if (fd < 0 || fstat(fd, &st) < 0)
            continue;
        uint64_t size = (uint64_t)st.st_size, take = size;
        if (tail > 0)
            take = tail_of(fd, size, &tail);
        else if (tail == 0)
            take = 0;
        bool enough = tail == 0;
        if (total + take >= bytes) {
            take = bytes > total ? bytes - total : 0;
            enough = true;
        }
        total += take;
        reader->number = numbers[count];
        reader->offset = size - take;
        if (enough)
            return;
    }
}

/* ---- answers ---- */

/* JSON has only UTF-8; any other byte becomes U+FFFD. */
static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *item, const char *text, size_t len)
{
    static const char replacement[3] = {'\xef', '\xbf', '\xbd'};
    char *clean = malloc(len * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; clean != NULL && i < len;) {
        const unsigned char *p = (const unsigned char *)text + i;
        size_t left = len - i, take = 0;
        uint32_t point = 0;

        if (p[0] < 0x80)
            take = 1;
        else if (p[0] >= 0xc2 && p[0] < 0xe0 && left >= 2)
            take = 2, point = p[0] & 0x1fu;
        else if (p[0] >= 0xe0 && p[0] < 0xf0 && left >= 3)
            take = 3, point = p[0] & 0x0fu;
        else if (p[0] >= 0xf0 && p[0] < 0xf5 && left >= 4)
            take = 4, point = p[0] & 0x07u;
        for (size_t k = 1; k < take; k++) {
            if ((p[k] & 0xc0) != 0x80) {
                take = 0;
                break;
            }
            point = point << 6 | (p[k] & 0x3fu);
        }
        if ((take == 3 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) ||
            (take == 4 && (point < 0x10000 || point > 0x10ffff)))
            take = 0;
        if (take == 0) {
            memcpy(clean + n, replacement, sizeof(replacement));
            n += 3;
            i++;
        } else {
            memcpy(clean + n, p, take);
            n += take;
            i += take;
        }
    }
    yyjson_mut_obj_add_strncpy(doc, item, "line", clean != NULL ? clean : "", n);
    free(clean);
}

static void add_records(const struct log_reader *reader, yyjson_mut_doc *doc, yyjson_mut_val *lines,
                        const char *data, size_t len, size_t *ret_used)
{
    size_t at = 0;

    while (at < len) {
        struct contlog_record record;
        size_t skip = 0;
        ssize_t n = contlog_parse(data + at, len - at, &record, &skip);

        if (n == 0)
            break;
        if (n < 0) {
            at += skip;
            continue;
        }
        at += (size_t)n;
        if (record.time < reader->since)
            continue;
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, lines);
        yyjson_mut_obj_add_uint(doc, item, "time", record.time);
        yyjson_mut_obj_add_str(doc, item, "stream", record.is_error ? "stderr" : "stdout");
        add_text(doc, item, record.text, record.len);
        yyjson_mut_obj_add_uint(doc, item, "position",
                                position_of(reader->number, reader->offset + at));
    }
    *ret_used = at;
}

/* Reads on from the reader's place until `max` bytes; moves it. False: nothing was there. */
static bool read_some(struct log_reader *reader, yyjson_mut_doc *doc, yyjson_mut_val *lines,
                      size_t max)
{
    static char data[CHUNK];
    size_t total = 0;

    while (total < max) {
        size_t used = 0;
        cleanup_close int fd = open_file(reader->dir, reader->number);
        size_t want = max - total < sizeof(data) ? max - total : sizeof(data);
        ssize_t n = 0;

        if (want < PAGE_MIN)
            want = PAGE_MIN;
        if (fd >= 0)
            n = pread(fd, data, want, (off_t)reader->offset);

        if (n > 0)
            add_records(reader, doc, lines, data, (size_t)n, &used);
        reader->offset += used;
        total += used;
        if (used > 0)
            continue;
        /* At its end; a later file means that nothing more comes here. */
        uint32_t next = next_file(reader->dir, reader->number + 1);
        if (next == 0)
            break;
        reader->number = next;
        reader->offset = 0;
    }
    return total > 0;
}

static void add_position(yyjson_mut_doc *doc, const struct log_reader *reader)
{
    yyjson_mut_obj_add_uint(doc, yyjson_mut_doc_get_root(doc), "position",
                            position_of(reader->number, reader->offset));
}

static yyjson_mut_doc *new_answer(yyjson_mut_val **ret_lines)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    *ret_lines = yyjson_mut_obj_add_arr(doc, root, "lines");
    return doc;
}

/* ---- readers ---- */

/* The kernel has one watch for a folder, however many read it. */
static void reader_unwatch(struct log_reader *reader)
{
    bool shared = false;

    for (const struct log_reader *other = reader->contd->readers; other != NULL;
         other = other->next)
        shared = shared || (other != reader && other->watch == reader->watch);
    if (reader->watch >= 0 && !shared)
        inotify_rm_watch(reader->contd->log_inotify, reader->watch);
}

static void reader_free(struct log_reader *reader)
{
    struct log_reader **at = &reader->contd->readers;

    while (*at != NULL && *at != reader)
        at = &(*at)->next;
    if (*at != NULL)
        *at = reader->next;
    loop_timer_del(reader->timer);
    reader_unwatch(reader);
    if (reader->dir >= 0)
        close(reader->dir);
    free(reader);
}

static void reader_gone(struct varlink_call *call, void *data)
{
    (void)call;
    reader_free(data);
}

static bool writes_no_more(const struct log_reader *reader)
{
    const struct instance *inst = instance_find(reader->contd, &reader->key);

    return inst == NULL || inst->phase == PHASE_REMOVING ||
           (inst->phase == PHASE_ENDED && !inst->wanted);
}

static void reader_end(struct log_reader *reader)
{
    struct varlink_call *call = reader->call;
    yyjson_mut_val *lines;

    yyjson_mut_doc *doc = new_answer(&lines);

    add_position(doc, reader);
    varlink_call_set_gone(call, NULL, NULL);
    reader_free(reader);
    varlink_call_reply(call, doc);
}

/* Hands over what there is, as far as the caller takes it. */
static void reader_pump(struct log_reader *reader)
{
    for (;;) {
        uint32_t number = reader->number;
        uint64_t offset = reader->offset;
        yyjson_mut_val *lines;
        yyjson_mut_doc *doc = new_answer(&lines);
        /* Asked before reading: what was written before the end is read after it. */
        bool last = !reader->follow || writes_no_more(reader);
        bool some = read_some(reader, doc, lines, CHUNK);

        if (!some) {
            yyjson_mut_doc_free(doc);
            if (last)
                reader_end(reader);
            return;
        }
        if (yyjson_mut_arr_size(lines) == 0) {
            yyjson_mut_doc_free(doc);
            continue;
        }
        add_position(doc, reader);
        int ret = varlink_call_reply_more(reader->call, doc);
        if (ret == -EAGAIN) {
            reader->number = number;
            reader->offset = offset;
            loop_timer_in(reader->timer, RETRY_US);
            return;
        }
        if (ret < 0)
            return; /* the caller went away: reader_gone follows */
    }
}

static void reader_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    reader_pump(data);
}

/* A pump may free its reader, and no other. */
static void readers_pump(struct contd *contd, int watch)
{
    for (struct log_reader *reader = contd->readers, *next; reader != NULL; reader = next) {
        next = reader->next;
        if (reader->watch >= 0 && (watch < 0 || reader->watch == watch))
            reader_pump(reader);
    }
}

static void readers_inotify(struct loop_io *io, int fd, uint32_t events, void *data)
{
    _Alignas(struct inotify_event) char buffer[4096];
    ssize_t n;

    (void)io;
    (void)events;
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        int last = -1;

        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event =
                (const struct inotify_event *)(const void *)(buffer + at);

            at += (ssize_t)(sizeof(*event) + event->len);
            /* some were lost: look at all; many of one folder in a row are one */
            if ((event->mask & IN_Q_OVERFLOW) != 0)
                readers_pump(data, -1);
            else if (event->wd != last)
                readers_pump(data, event->wd);
            last = event->wd;
        }
    }
}

void logs_changed(struct contd *contd)
{
    for (struct log_reader *reader = contd->readers; reader != NULL;) {
        struct log_reader *next = reader->next;

        if (reader->follow && writes_no_more(reader))
            reader_pump(reader);
        reader = next;
    }
}

/* ---- the method ---- */

static int reader_follow(struct log_reader *reader, const char *path)
{
    struct contd *contd = reader->contd;

    if (contd->log_io == NULL) {
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        int ret =
            fd < 0 ? -errno
                   : loop_io_add(contd->loop, fd, EPOLLIN, readers_inotify, contd, &contd->log_io);

        if (ret < 0) {
            if (fd >= 0)
                close(fd);
            return ret;
        }
        contd->log_inotify = fd;
    }
    reader->watch =
        inotify_add_watch(contd->log_inotify, path, IN_MODIFY | IN_CREATE | IN_DELETE_SELF);
    return reader->watch < 0 ? -errno : 0;
}

static void fail(struct varlink_call *call, int ret, const char *code, const char *message)
{
    struct error err = {0};

    error_set(&err, ret, code, NULL, "%s", message);
    varlink_call_fail(call, &err);
}

void method_get_log(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct contd *contd = data;
    struct instance_key key;
    struct members {
        int64_t tail;
        uint64_t since, after, bytes;
        bool follow;
    } members = {.tail = -1};
    static const struct json_field fields[] = {
        {"tail", JSON_INT, offsetof(struct members, tail), false, -1000000000, 1000000000},
        {"since", JSON_UINT, offsetof(struct members, since), false, 0, 0},
        {"follow", JSON_BOOL, offsetof(struct members, follow), false, 0, 0},
        {"after", JSON_UINT, offsetof(struct members, after), false, 0, 0},
        {"bytes", JSON_UINT, offsetof(struct members, bytes), false, 0, WHOLE_MAX},
    };
    struct instance where = {.contd = contd};
    char path[CONTD_PATH_MAX];
    struct error err = {0};
    size_t readers = 0;

    if (!method_key(call, params, &key))
        return;
    if (json_read(params, fields, sizeof(fields) / sizeof(fields[0]), JSON_IGNORE_UNKNOWN, &members,
                  "container.bad-call", &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    where.key = key;
    store_log(&where, path);
    if (instance_find(contd, &key) != NULL)
        file_mkdirs(path, 0700);
    for (struct log_reader *reader = contd->readers; reader != NULL; reader = reader->next)
        readers++;
    struct log_reader *reader = readers < READERS_MAX ? calloc(1, sizeof(*reader)) : NULL;
    if (reader == NULL) {
        fail(call, EBUSY, "container.busy", "too many logs are being read");
        return;
    }
    *reader = (struct log_reader){.contd = contd,
                                  .call = call,
                                  .key = key,
                                  .since = members.since,
                                  .number = 1,
                                  .watch = -1,
                                  .dir = -1,
                                  .next = contd->readers,
                                  .follow = members.follow && varlink_call_wants_more(call)};
    contd->readers = reader;
    reader->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (reader->dir < 0) {
        reader_free(reader);
        fail(call, ENOENT, "container.absent", "there is no log of that name");
        return;
    }
    if (loop_timer_add(contd->loop, reader_timer, reader, &reader->timer) < 0 ||
        (reader->follow && reader_follow(reader, path) < 0)) {
        reader_free(reader);
        fail(call, ENOMEM, "container.internal", "the log cannot be followed");
        return;
    }
    uint32_t first = next_file(reader->dir, 1);
    reader->number = first != 0 ? first : 1;
    if (members.after >= position_of(reader->number, 0)) {
        reader->number = (uint32_t)(members.after >> OFFSET_BITS);
        reader->offset = members.after & ((UINT64_C(1) << OFFSET_BITS) - 1);
    } else if (members.after == 0 && members.bytes > 0 && members.tail >= 0) {
        seek_back(reader, members.tail, FILE_BYTES_MAX);
    } else if (members.after == 0 && members.bytes == 0 &&
               (members.tail >= 0 || !varlink_call_wants_more(call)))
        seek_back(reader, members.tail, varlink_call_wants_more(call) ? FILE_BYTES_MAX : WHOLE_MAX);
    yyjson_mut_val *lines;
    yyjson_mut_doc *doc = new_answer(&lines);
    if (varlink_call_wants_more(call)) {
        varlink_call_set_gone(call, reader_gone, reader);
        /* Who follows knows from now on that no later line is missed. */
        add_position(doc, reader);
        if (reader->follow)
            varlink_call_reply_more(call, doc);
        else
            yyjson_mut_doc_free(doc);
        reader_pump(reader);
        return;
    }
    read_some(reader, doc, lines, members.bytes > 0 ? (size_t)members.bytes : WHOLE_MAX);
    add_position(doc, reader);
    reader_free(reader);
    varlink_call_reply(call, doc);
}
