/*
 * events.c - see events.h.
 *
 * The port may appear after core0 has started (its name arrives by a message of its own), so the kernel's uevents
 * are listened to. Lines wait in a bounded queue; a full one drops its oldest lines and says how many.
 */
#include "init/events.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init/core.h"
#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/json.h"

#define EVENTS_PORT "org.croft.events"
#define EVENTS_QUEUE_MAX 65536u /* bytes */
#define EVENTS_KEEP_MAX 16384u  /* as long as there is no port */
#define EVENTS_LINE_MAX 4096u

struct events {
    struct core *core;
    struct loop_io *uevent_io;
    struct loop_io *port_io;
    int uevent_fd;
    int port_fd;
    struct buffer queue;
    uint64_t dropped;
};

static void events_port_ready(struct loop_io *io, int fd, uint32_t ready, void *data);

/* ---- the port ---- */

static int events_open_port(struct events *events, const char *device)
{
    char path[300];
    int fd;
    int ret;

    snprintf(path, sizeof(path), "/dev/%.200s", device);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    /* Edge triggered: a port whose host end is closed reports EPOLLHUP for ever. The kernel wakes us when the host
     * opens it or takes data (drivers/char/virtio_console.c). */
    ret = loop_io_add(events->core->loop, fd, EPOLLOUT | EPOLLET, events_port_ready, events,
                      &events->port_io);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    events->port_fd = fd;
    return 0;
}

static void events_find_port(struct events *events)
{
    static const char folder[] = "/sys/class/virtio-ports";
    struct dirent *entry;
    DIR *dir;

    if (events->port_fd >= 0)
        return;
    dir = opendir(folder);
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL && events->port_fd < 0) {
        cleanup_free char *name = NULL;
        char path[320];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%.200s/name", folder, entry->d_name);
        if (file_read(path, 256, &name, NULL) < 0)
            continue;
        name[strcspn(name, "\n")] = '\0';
        if (strcmp(name, EVENTS_PORT) == 0)
            events_open_port(events, entry->d_name);
    }
    closedir(dir);
}

static void events_lose_port(struct events *events)
{
    loop_io_del(events->port_io);
    events->port_io = NULL;
    close(events->port_fd);
    events->port_fd = -1;
}

static void events_drain(struct events *events)
{
    size_t sent = 0;

    while (events->port_fd >= 0 && sent < events->queue.len) {
        ssize_t done = write(events->port_fd, events->queue.data + sent, events->queue.len - sent);

        if (done > 0) {
            sent += (size_t)done;
        } else if (done < 0 && errno != EAGAIN && errno != EINTR && errno != EPIPE) {
            events_lose_port(events); /* unplugged */
        } else if (done == 0 || errno != EINTR) {
            break;
        }
    }
    buffer_consume(&events->queue, sent);
    if (events->queue.len == 0)
        buffer_done(&events->queue);
}

static void events_port_ready(struct loop_io *io, int fd, uint32_t ready, void *data)
{
    (void)io;
    (void)fd;
    (void)ready;
    events_drain(data);
}

static void events_uevent(struct loop_io *io, int fd, uint32_t ready, void *data)
{
    struct events *events = data;
    char message[4096];
    bool wanted = false;
    ssize_t len;

    (void)io;
    (void)ready;
    while ((len = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT)) > 0) {
        message[len] = '\0';
        for (const char *at = message; at < message + len; at += strlen(at) + 1)
            wanted = wanted || strcmp(at, "SUBSYSTEM=virtio-ports") == 0;
    }
    /* Overrun (ENOBUFS): look as well. */
    if (wanted || (len < 0 && errno == ENOBUFS)) {
        events_find_port(events);
        events_drain(events);
    }
}

int events_open(struct core *core)
{
    const struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = 1};
    struct events *events = calloc(1, sizeof(*events));

    if (events == NULL)
        return -ENOMEM;
    events->core = core;
    events->port_fd = -1;
    events->uevent_fd = -1;
    buffer_init(&events->queue, EVENTS_QUEUE_MAX);
    core->events = events;
    if (core->root[0] != '\0')
        return 0; /* a name space has no ports of its own */

    events->uevent_fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (events->uevent_fd >= 0 &&
        (bind(events->uevent_fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
         loop_io_add(core->loop, events->uevent_fd, EPOLLIN, events_uevent, events,
                     &events->uevent_io) < 0)) {
        close(events->uevent_fd);
        events->uevent_fd = -1;
    }
    return 0;
}

void events_look(struct core *core)
{
    if (core->events == NULL)
        return;
    events_find_port(core->events);
    events_drain(core->events);
}

void events_close(struct core *core)
{
    struct events *events = core->events;

    if (events == NULL)
        return;
    core->events = NULL;
    loop_io_del(events->uevent_io);
    loop_io_del(events->port_io);
    if (events->uevent_fd >= 0)
        close(events->uevent_fd);
    if (events->port_fd >= 0)
        close(events->port_fd);
    buffer_done(&events->queue);
    free(events);
}

void events_flush(struct core *core)
{
    if (core->events != NULL)
        events_drain(core->events);
}

/* ---- lines ---- */

static void events_drop_oldest(struct events *events)
{
    const uint8_t *newline = memchr(events->queue.data, '\n', events->queue.len);

    buffer_consume(&events->queue, newline != NULL ? (size_t)(newline - events->queue.data) + 1
                                                   : events->queue.len);
    events->dropped++;
}

static void events_queue_line(struct events *events, const char *line, size_t len)
{
    size_t max = events->port_fd >= 0 ? EVENTS_QUEUE_MAX : EVENTS_KEEP_MAX;
    char note[96];
    int note_len;

    while (events->queue.len > 0 && events->queue.len + len + sizeof(note) > max)
        events_drop_oldest(events);
    buffer_append(&events->queue, line, len);
    buffer_append(&events->queue, "\n", 1);
    if (events->dropped > 0 && events->queue.len + sizeof(note) < max / 2) {
        note_len =
            snprintf(note, sizeof(note),
                     "{\"t\":%llu,\"service\":\"core0\",\"event\":\"dropped\",\"lines\":%llu}\n",
                     (unsigned long long)loop_clock(), (unsigned long long)events->dropped);
        buffer_append(&events->queue, note, (size_t)note_len);
        events->dropped = 0;
    }
    events_drain(events);
}

/* Takes the document over. */
static void events_send_doc(struct events *events, yyjson_mut_doc *doc)
{
    size_t len = 0;
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, &len);

    if (text != NULL && len < EVENTS_LINE_MAX)
        events_queue_line(events, text, len);
    free(text);
    yyjson_mut_doc_free(doc);
}

static yyjson_mut_doc *events_new(const char *service, const char *event, yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "t", loop_clock());
    yyjson_mut_obj_add_strcpy(doc, root, "service", service);
    if (event != NULL)
        yyjson_mut_obj_add_strcpy(doc, root, "event", event);
    *ret_root = root;
    return doc;
}

void events_send_text(struct core *core, const char *service, const char *event, const char *key,
                      const char *value)
{
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;

    if (core->events == NULL)
        return;
    doc = events_new(service, event, &root);
    yyjson_mut_obj_add_strcpy(doc, root, key, value);
    events_send_doc(core->events, doc);
}

void events_send_boot(struct core *core, const char *step)
{
    events_send_text(core, "core0", "boot", "step", step);
}

void events_send_service(struct core *core, const char *name, const char *state)
{
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;

    if (core->events == NULL)
        return;
    doc = events_new("core0", "service", &root);
    yyjson_mut_obj_add_strcpy(doc, root, "name", name);
    yyjson_mut_obj_add_strcpy(doc, root, "state", state);
    events_send_doc(core->events, doc);
}

/*
 * The sender's object with time and sender put in front. An event of a program may speak of a service of a
 * reservation: its own "service" member wins, so the sender is in "from" too.
 */
int events_send_json(struct core *core, const char *service, const char *json, size_t len)
{
    yyjson_obj_iter iter;
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;
    yyjson_doc *parsed;
    yyjson_val *object;
    yyjson_val *key;

    parsed = json_parse(json, len, EVENTS_LINE_MAX, "core.event", NULL);
    object = yyjson_doc_get_root(parsed);
    if (!yyjson_is_obj(object) || !yyjson_is_str(yyjson_obj_get(object, "event"))) {
        yyjson_doc_free(parsed);
        return -EINVAL;
    }
    if (core->events == NULL) {
        yyjson_doc_free(parsed);
        return 0;
    }
    doc = yyjson_mut_doc_new(NULL);
    root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_uint(doc, root, "t", loop_clock());
    if (yyjson_obj_get(object, "service") == NULL)
        yyjson_mut_obj_add_strcpy(doc, root, "service", service);
    yyjson_mut_obj_add_strcpy(doc, root, "from", service);
    iter = yyjson_obj_iter_with(object);
    while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
        if (yyjson_equals_str(key, "t") || yyjson_equals_str(key, "from"))
            continue;
        yyjson_mut_obj_add(root, yyjson_val_mut_copy(doc, key),
                           yyjson_val_mut_copy(doc, yyjson_obj_iter_get_val(key)));
    }
    events_send_doc(core->events, doc);
    yyjson_doc_free(parsed);
    return 0;
}
