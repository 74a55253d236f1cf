/*
 * space_server.c - the kvd of each pool that holds namespaces: what it is given, its start, and the requests to it.
 *
 * A pool keeps <pool>/kv (a subvolume without copy-on-write, limited to what the namespaces were promised) and, on the
 * fastest ssd pool where there is another one, <ssd>/kv-index/<pool>. What the service's file reads of it lies in
 * /run/croft/kvd: <pool>.env (port, place of the index) and <pool>.password, which is new with every boot.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "btrfs.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/log.h"
#include "space.h"

#define RUN "/run/croft/kvd"
#define CORE_SOCKET "/run/croft/core0"
#define NODE_SOCKET "/run/croft/noded"
#define CERTIFICATE RUN "/certificate"
#define KEY RUN "/key"
/* noded comes after storaged: for so long what is found at a start waits for the certificate. */
#define CERTIFICATE_PATIENCE_US ((uint64_t)15 * 1000000)
#define CERTIFICATE_RETRY_US ((uint64_t)500 * 1000)
#define CERTIFICATE_MAX 2048
#define DATA "kv"
#define INDEX "kv-index"
/* core0/net/ports.c keeps them from tenants. */
#define PORT_FIRST 61000
#define PORT_LAST 61063
#define CORE_TIMEOUT_US ((uint64_t)10 * 1000000)
#define RETRY_US ((uint64_t)2 * 1000000)
/* Between core0's answer and the socket: a service that is ending first ends. */
#define SOCKET_WAIT_US ((uint64_t)100 * 1000)
#define SOCKET_TRIES 100u

struct ask {
    struct ask *next;
    struct buffer request;
    size_t count;
    space_talk_fn *fn;
    void *data;
};

struct space_server {
    struct space_server *next;
    struct storage *storage;
    char uuid[GPT_GUID_TEXT];
    uint16_t port;
    char index[GPT_GUID_TEXT]; /* the pool of its index; "": beside the data */
    bool decided;              /* about the index, for as long as that pool is there */
    struct ask *asks;          /* the first one is under way if `busy` */
    bool busy;
    struct space_talk *talk;
    struct loop_timer *socket_timer;
    unsigned tries;
};

struct space_servers {
    struct space_server *list;
    struct varlink_client *core, *node;
    struct loop_timer *retry;
    struct loop_timer *certify; /* asks noded until it has answered */
    bool certified, asking;     /* the servers' certificate and key lie in /run */
    uint64_t patient_until;
};

static struct pool *pool_by_uuid(const struct storage *storage, const char *uuid)
{
    for (struct pool *pool = storage->pools; pool != NULL; pool = pool->next)
        if (strcmp(pool->uuid, uuid) == 0)
            return pool;
    return NULL;
}

static struct space_server *server_of(const struct storage *storage, const struct pool *pool)
{
    for (struct space_server *server = storage->spaces->list; server != NULL; server = server->next)
        if (strcmp(server->uuid, pool->uuid) == 0)
            return server;
    return NULL;
}

/* ---- folders ---- */

static int subvolume(const struct pool *pool, const char *name, bool no_cow, uint64_t bytes)
{
    int r = btrfs_subvolume_create(pool->fd, name);
    if (r < 0 && r != -EEXIST)
        return r;
    cleanup_close int fd = openat(pool->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int flags = 0;
    uint64_t id = 0;
    if (fd < 0)
        return -errno;
    /* New files inherit it (docs/decisions/0111). */
    r = no_cow ? file_ioctl(fd, FS_IOC_GETFLAGS, &flags) : 0;
    if (r == 0 && no_cow && (flags & FS_NOCOW_FL) == 0) {
        flags |= FS_NOCOW_FL;
        r = file_ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    if (r < 0)
        return r;
    if (fchown(fd, STORAGE_UID_KVD, STORAGE_UID_KVD) < 0 || fchmod(fd, 0700) < 0)
        return -errno;
    r = btrfs_subvolume_id(fd, &id);
    return r < 0 ? r : btrfs_limit_set(pool->fd, id, bytes);
}

/* The pool of the index: where it is, as long as that is there (moving it means to read all records); else the fastest ssd.
 * NULL: beside the data. */
static const struct pool *index_pool(const struct space_server *server, const struct pool *pool)
{
    const struct pool *is = pool_by_uuid(server->storage, server->index);
    const struct pool *first = server->storage->pools;
    if (is != NULL || (server->decided && server->index[0] == '\0'))
        return is;
    return pool->rotational && first != NULL && !first->rotational && !first->ephemeral ? first
                                                                                        : NULL;
}

static int make_index(const struct space_server *server, const struct pool *on, char *ret_path,
                      size_t size)
{
    uint64_t usable, own;
    char folder[128];
    pool_plan(on->size, &usable, &own);
    /* Of the pool's own share three quarters are for images. */
    int r = subvolume(on, INDEX, false, own / 8);
    if (r < 0)
        return r;
    pool_path(on, folder, sizeof(folder));
    snprintf(ret_path, size, "%s/" INDEX "/%s", folder, server->uuid);
    if (mkdir(ret_path, 0700) < 0 && errno != EEXIST)
        return -errno;
    return chown(ret_path, STORAGE_UID_KVD, STORAGE_UID_KVD) < 0 ? -errno : 0;
}

static void run_path(const struct space_server *server, const char *suffix, char ret_path[128])
{
    snprintf(ret_path, 128, RUN "/%s%s", server->uuid, suffix);
}

static int make_password(const struct space_server *server)
{
    uint8_t random[16];
    char path[128];
    char text[33];
    int r = 0;
    run_path(server, ".password", path);
    if (access(path, F_OK) < 0) {
        crypto_random(random, sizeof(random));
        hex_encode(random, sizeof(random), text);
        r = file_write_atomic(path, text, 32, 0600);
        explicit_bzero(text, sizeof(text));
    }
    /* Each time: a predecessor may have been killed in between. */
    return r == 0 && chown(path, STORAGE_UID_KVD, STORAGE_UID_KVD) < 0 ? -errno : r;
}

/* 1: what the service reads has changed, 0: it is the same, or -errno. */
static int make_env(struct space_server *server, const struct pool *pool)
{
    const struct pool *on = index_pool(server, pool);
    cleanup_free char *old = NULL;
    char index[256] = "";
    char text[768];
    char path[128];
    int r = on == NULL ? 0 : make_index(server, on, index, sizeof(index));
    if (r < 0) {
        log_warn("index of the key-value server on %s: not on %s: %s", pool->disk, on->disk,
                 strerror(-r));
        on = NULL;
    }
    snprintf(server->index, sizeof(server->index), "%s", on != NULL ? on->uuid : "");
    server->decided = true;
    bool certified = server->storage->spaces->certified;
    int len = snprintf(text, sizeof(text),
                       "KVD_INDEX_POOL=%s\nKVD_PORT=%u\nKVD_OPTIONS=--listen %s:[::]:%u%s%s%s\n",
                       server->index, server->port, certified ? "either" : "tcp", server->port,
                       certified ? " --tls-cert " CERTIFICATE " --tls-key " KEY : "",
                       on != NULL ? " --index " : "", on != NULL ? index : "");
    run_path(server, ".env", path);
    if (file_read(path, sizeof(text), &old, NULL) == 0 && strcmp(old, text) == 0)
        return 0;
    r = file_write_atomic(path, text, (size_t)len, 0644);
    return r < 0 ? r : 1;
}

/* The port and the index's pool that an environment file names; 0 without one. */
static uint16_t read_env(const char *path, char ret_index[GPT_GUID_TEXT])
{
    cleanup_free char *text = NULL;
    unsigned port = 0;
    ret_index[0] = '\0';
    if (file_read(path, 1024, &text, NULL) < 0)
        return 0;
    const char *line = strstr(text, "KVD_PORT=");
    if (line == NULL || sscanf(line, "KVD_PORT=%u", &port) != 1 || port < PORT_FIRST ||
        port > PORT_LAST)
        return 0;
    if (sscanf(text, "KVD_INDEX_POOL=%36[0-9A-Fa-f-]", ret_index) != 1)
        ret_index[0] = '\0';
    return (uint16_t)port;
}

/* One bit per port that some pool's kvd has, also of a pool that has not been seen since a predecessor's time. */
static uint64_t taken_ports(const struct space_servers *servers)
{
    uint64_t taken = 0;
    for (const struct space_server *server = servers->list; server != NULL; server = server->next)
        taken |= server->port != 0 ? (uint64_t)1 << (server->port - PORT_FIRST) : 0;
    DIR *dir = opendir(RUN);
    if (dir == NULL)
        return taken;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *dot = strrchr(entry->d_name, '.');
        char path[sizeof(RUN) + sizeof(entry->d_name)];
        char index[GPT_GUID_TEXT];
        if (dot == NULL || strcmp(dot, ".env") != 0)
            continue;
        snprintf(path, sizeof(path), RUN "/%s", entry->d_name);
        uint16_t port = read_env(path, index);
        taken |= port != 0 ? (uint64_t)1 << (port - PORT_FIRST) : 0;
    }
    closedir(dir);
    return taken;
}

static uint16_t free_port(const struct space_servers *servers)
{
    uint64_t taken = taken_ports(servers);
    for (uint16_t port = PORT_FIRST; port <= PORT_LAST; port++)
        if ((taken >> (port - PORT_FIRST) & 1) == 0)
            return port;
    return 0;
}

static void try_socket(struct loop_timer *timer, void *data);

static struct space_server *server_make(struct storage *storage, const struct pool *pool)
{
    struct space_server *server = server_of(storage, pool);
    if (server != NULL)
        return server;
    server = calloc(1, sizeof(*server));
    if (server == NULL)
        return NULL;
    if (loop_timer_add(daemon_loop(storage->daemon), try_socket, server, &server->socket_timer) <
        0) {
        free(server);
        return NULL;
    }
    server->storage = storage;
    snprintf(server->uuid, sizeof(server->uuid), "%s", pool->uuid);
    /* What a predecessor wrote is taken up, so that a kvd that runs is left alone. */
    char path[128];
    run_path(server, ".env", path);
    server->port = read_env(path, server->index);
    server->decided = server->port != 0;
    if (server->port == 0)
        server->port = free_port(storage->spaces);
    if (server->port == 0) {
        loop_timer_del(server->socket_timer);
        free(server);
        return NULL;
    }
    /* At the end: list and ports stay in the order of their making. */
    struct space_server **at = &storage->spaces->list;
    while (*at != NULL)
        at = &(*at)->next;
    *at = server;
    return server;
}

/* Everything that kvd finds when it starts. As make_env. */
static int prepare(struct space_server *server, const struct pool *pool, struct error *err)
{
    int r = file_mkdirs(RUN, 0755);
    if (r == 0)
        r = subvolume(pool, DATA, true, space_reserved(pool));
    if (r == 0)
        r = make_password(server);
    if (r == 0)
        r = make_env(server, pool);
    if (r < 0)
        error_set(err, -r, "storage.failed", "see the log of storaged",
                  "the key-value server on %s cannot be prepared: %s", pool->disk, strerror(-r));
    return r;
}

/* ---- asking core0 ---- */

static int order(struct space_server *server, const char *method, varlink_reply_fn *fn, void *data)
{
    char name[8 + GPT_GUID_TEXT];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    snprintf(name, sizeof(name), "kvd@%s", server->uuid);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "name", name);
    return varlink_client_call(server->storage->spaces->core, method, doc, 0, CORE_TIMEOUT_US, fn,
                               data);
}

/* ---- requests ---- */

static void next_ask(struct space_server *server);

static void ask_free(struct ask *ask)
{
    if (ask->request.data != NULL)
        explicit_bzero(ask->request.data, ask->request.len);
    buffer_done(&ask->request);
    free(ask);
}

/* The first request is over. */
static void finish(struct space_server *server, const struct space_reply *replies, size_t count,
                   const struct error *err)
{
    struct ask *ask = server->asks;
    server->asks = ask->next;
    server->busy = false;
    server->talk = NULL;
    next_ask(server);
    ask->fn(replies, count, err, ask->data);
    ask_free(ask);
}

static void on_replies(const struct space_reply *replies, size_t count, const struct error *err,
                       void *data)
{
    struct space_server *server = data;
    struct error refused = {0};
    if (replies != NULL && replies[0].type != '+') {
        error_set(&refused, EACCES, "storage.kvd-failed", "see the log of its service",
                  "the key-value server refuses storaged: %.*s", (int)replies[0].len,
                  replies[0].text);
        replies = NULL;
        err = &refused;
    }
    finish(server, replies == NULL ? NULL : replies + 1, replies == NULL ? 0 : count - 1, err);
}

static int begin_talk(struct space_server *server, struct error *err)
{
    struct ask *ask = server->asks;
    struct buffer request;
    cleanup_free char *password = NULL;
    char path[128];
    run_path(server, ".password", path);
    int r = file_read(path, 64, &password, NULL);
    buffer_init(&request, 0);
    if (r == 0)
        r = space_request(&request, (const char *const[]){"AUTH", password, NULL});
    if (r == 0)
        r = buffer_append(&request, ask->request.data, ask->request.len);
    if (r < 0) {
        error_set(err, -r, "storage.failed", "see the log of storaged",
                  "the key-value server cannot be asked: %s", strerror(-r));
    } else {
        run_path(server, "", path);
        r = space_talk_start(daemon_loop(server->storage->daemon), path, &request, ask->count + 1,
                             on_replies, server, &server->talk, err);
    }
    if (request.data != NULL)
        explicit_bzero(request.data, request.len);
    buffer_done(&request);
    if (password != NULL)
        explicit_bzero(password, strlen(password));
    return r;
}

static void try_socket(struct loop_timer *timer, void *data)
{
    struct space_server *server = data;
    struct error err = {0};
    int r = begin_talk(server, &err);
    if ((r == -ENOENT || r == -ECONNREFUSED) && server->tries++ < SOCKET_TRIES)
        loop_timer_in(timer, SOCKET_WAIT_US);
    else if (r < 0)
        finish(server, NULL, 0, &err);
}

static void on_started(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct space_server *server = data;
    struct error failed = {0};
    (void)more;
    if (parameters == NULL) {
        /* core0 is never gone for long; whatever it says is tried again by who asked. */
        error_set(&failed, EAGAIN, "storage.busy", "it is asked again by itself",
                  "the key-value server cannot be started: %s", err->message);
        finish(server, NULL, 0, &failed);
    } else {
        server->tries = 0;
        try_socket(server->socket_timer, server);
    }
}

static void next_ask(struct space_server *server)
{
    struct error err = {0};
    const struct pool *pool = pool_by_uuid(server->storage, server->uuid);
    int r;
    if (server->busy || server->asks == NULL)
        return;
    server->busy = true;
    if (pool == NULL)
        r = error_set(&err, EIO, "storage.disk-failed", "", "the disk of the namespace is gone");
    else
        r = prepare(server, pool, &err);
    if (r >= 0)
        r = order(server, "org.croft.core.StartService", on_started, server);
    if (r >= 0)
        return;
    if (!error_is_set(&err))
        error_set(&err, -r, "storage.busy", "", "core0 cannot be asked: %s", strerror(-r));
    finish(server, NULL, 0, &err);
}

static void begin_later(void *data)
{
    struct storage *storage = data;
    for (struct space_server *server = storage->spaces->list; server != NULL; server = server->next)
        next_ask(server);
}

int space_server_ask(struct storage *storage, const struct pool *pool, struct buffer *request,
                     size_t count, space_talk_fn *fn, void *data, struct error *err)
{
    struct space_server *server = server_make(storage, pool);
    struct ask *ask = calloc(1, sizeof(*ask));
    int r = server == NULL || ask == NULL
                ? -ENOMEM
                : loop_defer(daemon_loop(storage->daemon), begin_later, storage);
    if (r < 0) {
        free(ask);
        buffer_done(request);
        return error_set(err, ENOMEM, "storage.no-memory", "",
                         "no memory or no port for another key-value server");
    }
    *ask = (struct ask){.request = *request, .count = count, .fn = fn, .data = data};
    struct ask **at = &server->asks;
    while (*at != NULL)
        at = &(*at)->next;
    *at = ask;
    return 0;
}

/* ---- servers come and go with their pools ---- */

static void on_ordered(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct storage *storage = data;
    (void)more;
    if (parameters != NULL)
        return;
    log_error(err, "key-value server");
    loop_timer_in(storage->spaces->retry, RETRY_US);
}

static int found(const struct space *space, void *data)
{
    (void)space;
    (void)data;
    return 1;
}

/* ---- the certificate ---- */

static int put_file(yyjson_val *parameters, const char *member, const char *path)
{
    const char *text = yyjson_get_str(yyjson_obj_get(parameters, member));
    uint8_t *der = NULL;
    size_t len = 0;
    int r = text == NULL ? -EBADMSG : base64_decode(text, CERTIFICATE_MAX, &der, &len);
    if (r == 0)
        r = file_write_atomic(path, der, len, 0400);
    if (r == 0 && chown(path, STORAGE_UID_KVD, STORAGE_UID_KVD) < 0)
        r = -errno;
    if (der != NULL)
        explicit_bzero(der, len);
    free(der);
    return r;
}

static void on_certificate(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct storage *storage = data;
    struct space_servers *servers = storage->spaces;
    (void)more;
    (void)err; /* noded is not there yet, or has no identity: it is asked again */
    servers->asking = false;
    int r = parameters == NULL ? -EAGAIN : file_mkdirs(RUN, 0755);
    /* The key first: with the certificate both are there. */
    if (r == 0)
        r = put_file(parameters, "key", KEY);
    if (r == 0)
        r = put_file(parameters, "certificate", CERTIFICATE);
    if (r < 0) {
        loop_timer_in(servers->certify, CERTIFICATE_RETRY_US);
        return;
    }
    servers->certified = true;
    space_servers_settle(storage);
}

static void certify(struct loop_timer *timer, void *data)
{
    struct storage *storage = data;
    struct space_servers *servers = storage->spaces;
    if (servers->certified || servers->asking)
        return;
    servers->asking = varlink_client_call(servers->node, "org.croft.node.IssueServerCertificate",
                                          NULL, 0, CORE_TIMEOUT_US, on_certificate, storage) == 0;
    if (!servers->asking)
        loop_timer_in(timer, CERTIFICATE_RETRY_US);
}

void space_servers_settle(struct storage *storage)
{
    struct space_servers *servers = storage->spaces;
    if (!storage->ready)
        return;
    if (!servers->certified) {
        uint64_t now = loop_clock();
        if (servers->patient_until == 0)
            servers->patient_until = now + CERTIFICATE_PATIENCE_US;
        certify(servers->certify, storage);
        if (now < servers->patient_until) {
            loop_timer_in(servers->retry, servers->patient_until - now);
            return;
        }
    }
    for (const struct pool *pool = storage->pools; pool != NULL; pool = pool->next) {
        struct error err = {0};
        if (space_each(pool, found, NULL) != 1)
            continue;
        struct space_server *server = server_make(storage, pool);
        bool known = server != NULL && access(RUN, F_OK) == 0;
        int changed = server == NULL ? -ENOMEM : prepare(server, pool, &err);
        if (changed >= 0)
            /* Another place for the index is read at the start only; before the first start both orders do the same. */
            changed = order(server,
                            changed == 1 && known ? "org.croft.core.RestartService"
                                                  : "org.croft.core.StartService",
                            on_ordered, storage);
        if (changed < 0) {
            if (error_is_set(&err))
                log_error(&err, "key-value server");
            loop_timer_in(storage->spaces->retry, RETRY_US);
        }
    }
}

static void on_retry(struct loop_timer *timer, void *data)
{
    (void)timer;
    space_servers_settle(data);
}

static void on_stopped(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    (void)more;
    (void)data;
    if (parameters == NULL && strcmp(err->code, "core.no-service") != 0)
        log_error(err, "key-value server");
}

void space_servers_lose(struct storage *storage, const struct pool *pool)
{
    struct space_server *server = server_of(storage, pool);
    /* A request under way ends by itself: kvd stops, and with it the connection. */
    if (server != NULL)
        (void)order(server, "org.croft.core.StopService", on_stopped, storage);
    /* Whose index lay there starts anew without it, once the pool is off the list. */
    loop_timer_in(storage->spaces->retry, 0);
}

void space_server_end(struct storage *storage, const struct pool *pool)
{
    struct space_server *server = server_of(storage, pool);
    char path[256];
    if (server == NULL || server->asks != NULL)
        return;
    (void)order(server, "org.croft.core.StopService", on_stopped, storage);
    const struct pool *on = pool_by_uuid(storage, server->index);
    if (on != NULL) {
        pool_path(on, path, 128);
        snprintf(path + strlen(path), 128, "/" INDEX "/%s", server->uuid);
        (void)file_remove_tree(path);
    }
    /* What kvd still has open goes when it has stopped; a next one begins with a new folder. */
    int r = btrfs_subvolume_remove(pool->fd, DATA);
    if (r < 0 && r != -ENOENT)
        log_warn("the data of the key-value server on %s: %s", pool->disk, strerror(-r));
    (void)btrfs_limit_sweep(pool->fd);
}

bool space_server_has_tls(const struct storage *storage)
{
    return storage->spaces->certified;
}

uint16_t space_server_port(const struct storage *storage, const struct pool *pool)
{
    const struct space_server *server = server_of(storage, pool);
    return server != NULL ? server->port : 0;
}

int space_servers_new(struct storage *storage, struct space_servers **ret_servers)
{
    struct loop *loop = daemon_loop(storage->daemon);
    struct space_servers *servers = calloc(1, sizeof(*servers));
    int r = servers == NULL ? -ENOMEM : varlink_client_new(loop, CORE_SOCKET, &servers->core);
    if (r == 0)
        r = varlink_client_new(loop, NODE_SOCKET, &servers->node);
    if (r == 0)
        r = loop_timer_add(loop, certify, storage, &servers->certify);
    /* A predecessor's are as good: they live as long as the machine runs. */
    if (r == 0)
        servers->certified = access(CERTIFICATE, F_OK) == 0 && access(KEY, F_OK) == 0;
    if (r == 0)
        r = loop_timer_add(loop, on_retry, storage, &servers->retry);
    if (r < 0) {
        if (servers != NULL)
            varlink_client_free(servers->core);
        if (servers != NULL)
            varlink_client_free(servers->node);
        free(servers);
        return r;
    }
    *ret_servers = servers;
    return 0;
}
