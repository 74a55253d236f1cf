/*
 * main.c - kvd: options, the store, the server, and the loop of the main thread.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/daemon.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "metrics.h"
#include "replica.h"
#include "server.h"
#include "store.h"

#define MEMORY_LEAST_BESIDE ((size_t)8 << 20)

static const char help[] =
    "usage: kvd --data DIR [OPTION]…\n"
    "An append-only key-value server: the Redis protocol with 0-db's commands.\n\n"
    "  --data DIR                  folder of the segments; one server per folder\n"
    "  --index DIR                 folder of the indexes, on a faster disk (the data folder)\n"
    "  --listen tcp:ADDR:PORT      where clients reach it; repeatable (tcp:127.0.0.1:9900)\n"
    "           plain:ADDR:PORT    the same without TLS where there is a certificate\n"
    "           either:ADDR:PORT   TLS and plain text, as the client begins\n"
    "           unix:PATH          a socket of this machine, never with TLS\n"
    "           fd:N               a listening socket that kvd was started with\n"
    "  --mode user|seq             of new namespaces: keys of the client, or numbers (user)\n"
    "  --sync always|everysec|none an answer means: on the disk; within a second; some day "
    "(everysec)\n"
    "  --workers N                 threads that serve clients (1)\n"
    "  --admin-password-file F     without it everybody is administrator\n"
    "  --tls-cert F --tls-key F    PEM; tcp listeners then speak TLS 1.2 and 1.3 only\n"
    "  --metrics ADDR:PORT         Prometheus text at /metrics\n"
    "  --max-value BYTES           of one value, at most 67108864 (67108864)\n"
    "  --max-memory BYTES          of all large requests and answers under way (268435456)\n"
    "  --max-clients N             (10000)\n"
    "  --replica-of tcp:ADDR:PORT|tls:ADDR:PORT|unix:PATH\n"
    "                              follow that server and take no writes\n"
    "  --replica-tls-ca F          PEM: authorities of its certificate, or that certificate "
    "itself\n"
    "  --replica-tls-name NAME     that its certificate must have (the address)\n"
    "  --replica-password-file F   its administrator's password (--admin-password-file)\n"
    "  --request-timeout SECONDS   for a request to arrive whole and an answer to be taken (60)\n"
    "  --segment-size BYTES        (268435456)\n"
    "  --reserve BYTES             of the disk, for compaction (one segment)\n"
    "  --help, --version\n\n"
    "example: kvd --data /var/lib/kvd --listen tcp:127.0.0.1:9900 --sync always\n"
    "         redis-cli -p 9900 SET greeting hello\n";

struct arguments {
    const char *data, *index, *mode, *sync, *workers, *admin_file, *max_value, *max_memory,
        *max_clients, *replica_file, *segment_size, *reserve, *request_timeout;
    struct replica_primary primary;
    struct server_options server;
};

static int wrong(const char *what)
{
    fprintf(stderr, "kvd: %s\nTry: kvd --help\n", what);
    return 2;
}

static bool replica_address_is_good(const char *text)
{
    static const char *const schemes[] = {"tcp:", "tls:", "unix:"};

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

static int parse_arguments(int argc, char **argv, struct arguments *a)
{
    const struct {
        const char *name;
        const char **value;
    } texts[] = {
        {"data", &a->data},
        {"index", &a->index},
        {"mode", &a->mode},
        {"sync", &a->sync},
        {"workers", &a->workers},
        {"admin-password-file", &a->admin_file},
        {"tls-cert", &a->server.tls_cert},
        {"tls-key", &a->server.tls_key},
        {"metrics", &a->server.metrics},
        {"max-value", &a->max_value},
        {"max-memory", &a->max_memory},
        {"max-clients", &a->max_clients},
        {"replica-of", &a->primary.address},
        {"replica-tls-ca", &a->primary.trusted},
        {"replica-tls-name", &a->primary.name},
        {"replica-password-file", &a->replica_file},
        {"segment-size", &a->segment_size},
        {"reserve", &a->reserve},
        {"request-timeout", &a->request_timeout},
    };
    enum { COUNT = sizeof(texts) / sizeof(texts[0]), LISTEN, HELP, VERSION };
    struct option table[COUNT + 4] = {
        [COUNT] = {"listen", required_argument, NULL, LISTEN + 1},
        [COUNT + 1] = {"help", no_argument, NULL, HELP + 1},
        [COUNT + 2] = {"version", no_argument, NULL, VERSION + 1},
    };
    int c;

    for (int i = 0; i < COUNT; i++)
        table[i] = (struct option){texts[i].name, required_argument, NULL, i + 1};
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c > 0 && c <= COUNT) {
            *texts[c - 1].value = optarg;
        } else if (c == LISTEN + 1) {
            if (a->server.listener_count == SERVER_LISTENERS_MAX)
                return wrong("too many --listen");
            a->server.listeners[a->server.listener_count++] = optarg;
        } else if (c == HELP + 1) {
            fputs(help, stdout);
            exit(0);
        } else if (c == VERSION + 1) {
            printf("kvd %s\n", daemon_version());
            exit(0);
        } else {
            return wrong("unknown option");
        }
    }
    if (optind != argc)
        return wrong("too many arguments");
    if (a->data == NULL)
        return wrong("--data is needed");
    if ((a->server.tls_cert == NULL) != (a->server.tls_key == NULL))
        return wrong("--tls-cert and --tls-key belong together");
    if (a->primary.address != NULL && !replica_address_is_good(a->primary.address))
        return wrong("--replica-of is tcp:ADDR:PORT, tls:ADDR:PORT or unix:PATH");
    if ((a->primary.address != NULL && strncmp(a->primary.address, "tls:", 4) == 0) !=
        (a->primary.trusted != NULL))
        return wrong("--replica-of tls:… and --replica-tls-ca belong together");
    if (a->primary.name != NULL && a->primary.trusted == NULL)
        return wrong("--replica-tls-name is for --replica-of tls:…");
    return 0;
}

static bool number(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    return resp_number((const uint8_t *)text, strlen(text), most, ret_number) == 0 &&
           *ret_number >= least;
}

/* The place of a word in a list ended by NULL, or -1. */
static int choice(const char *text, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
    }
    return -1;
}

static int numbers(struct arguments *a, struct store_options *store)
{
    static const char *const modes[] = {[STORE_USER] = "user", [STORE_SEQ] = "seq", NULL};
    static const char *const syncs[] = {[STORE_SYNC_ALWAYS] = "always",
                                        [STORE_SYNC_EVERYSEC] = "everysec",
                                        [STORE_SYNC_NONE] = "none",
                                        NULL};
    int mode = choice(a->mode, modes), sync = choice(a->sync, syncs);
    uint64_t n;

    if (mode < 0)
        return wrong("--mode is user or seq");
    if (sync < 0)
        return wrong("--sync is always, everysec or none");
    store->mode = (enum store_mode)mode;
    a->server.mode = store->mode;
    store->sync = (enum store_sync)sync;
    if (!number(a->workers, 1, SERVER_WORKERS_MAX, &n))
        return wrong("--workers is 1 to 64");
    a->server.workers = (unsigned)n;
    if (!number(a->max_value, 1, STORE_VALUE_MAX, &n))
        return wrong("--max-value is 1 to 67108864");
    a->server.max_value = n;
    store->max_value = (uint32_t)n;
    /* a request may grow from half its size to its size, and beside it one answer must fit */
    if (!number(a->max_memory, 3 * n + MEMORY_LEAST_BESIDE, (uint64_t)1 << 46, &n))
        return wrong("--max-memory is at least three times --max-value and 8 MiB");
    a->server.max_memory = n;
    if (!number(a->max_clients, 1, 1000000, &n))
        return wrong("--max-clients is 1 to 1000000");
    a->server.max_clients = (unsigned)n;
    if (!number(a->request_timeout, 1, 86400, &n))
        return wrong("--request-timeout is 1 to 86400 seconds");
    a->server.request_us = n * 1000000;
    if (!number(a->segment_size, 1 << 16, UINT32_MAX, &n) && strcmp(a->segment_size, "0") != 0)
        return wrong("--segment-size is 65536 to 4294967295");
    store->segment_size = (uint32_t)n;
    if (!number(a->reserve, 0, (uint64_t)1 << 50, &store->reserve))
        return wrong("--reserve is a number of bytes");
    return 0;
}

static int read_password(const char *path, char ret_password[SERVER_PASSWORD_MAX + 1],
                         struct error *err)
{
    char *text;
    size_t len;
    int r = file_read(path, 4096, &text, &len);

    if (r < 0)
        return error_set(err, -r, "kv.no-password", "give a file that kvd may read",
                         "%s cannot be read: %s", path, strerror(-r));
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    if (len == 0 || len > SERVER_PASSWORD_MAX || memchr(text, '\0', len) != NULL) {
        free(text);
        return error_set(err, EINVAL, "kv.no-password", "write one line of 1 to 128 bytes into it",
                         "%s holds no password", path);
    }
    memcpy(ret_password, text, len);
    ret_password[len] = '\0';
    explicit_bzero(text, len);
    free(text);
    return 0;
}

static void on_signal(struct loop *loop, int signo, void *data)
{
    (void)signo;
    (void)data;
    loop_exit(loop, 0);
}

static int serve(struct arguments *a, struct store *store, const struct replica_options *replica,
                 struct error *err)
{
    struct server *server = NULL;
    struct loop *loop;
    int r = loop_new(&loop);

    if (r == 0)
        r = loop_signal_add(loop, SIGTERM, on_signal, NULL);
    if (r == 0)
        r = loop_signal_add(loop, SIGINT, on_signal, NULL);
    if (r < 0)
        return error_set(err, -r, "kv.no-memory", "", "no event loop: %s", strerror(-r));
    signal(SIGPIPE, SIG_IGN);
    r = server_new(&a->server, store, loop, &server, err);
    if (r == 0 && a->server.metrics != NULL)
        r = metrics_start(server, err);
    if (r == 0 && replica->primary.address != NULL)
        r = replica_start(server, replica, err);
    if (r == 0)
        r = server_listen(server, err);
    if (r == 0) {
        for (unsigned i = 0; i < a->server.listener_count; i++)
            log_info("listening on %s (port %u)", a->server.listeners[i], server_port(server, i));
        if (a->server.metrics != NULL)
            log_info("metrics on port %u", server->metrics_port);
        if (a->server.password[0] == '\0')
            log_warn("no --admin-password-file: every client is administrator");
        notify_ready();
        r = loop_run(loop);
        notify_stopping();
    }
    server_free(server);
    loop_free(loop);
    return r;
}

static int run(struct arguments *a, struct store_options *options, struct error *err)
{
    struct replica_options replica = {.primary = a->primary};
    char state[4096];
    struct store *store;
    int r = 0, closed;

    if (a->admin_file != NULL)
        r = read_password(a->admin_file, a->server.password, err);
    if (r == 0 && a->replica_file != NULL)
        r = read_password(a->replica_file, replica.password, err);
    else
        memcpy(replica.password, a->server.password, sizeof(replica.password));
    if (r < 0)
        return r;
    options->data = a->data;
    options->index = a->index;
    snprintf(state, sizeof(state), "%s/replica", a->data);
    replica.state = state;
    r = store_open(options, &store, err);
    if (r < 0)
        return r;
    r = serve(a, store, &replica, err);
    closed = store_close(store);
    if (r >= 0 && closed < 0)
        r = store_error(closed, err);
    return r;
}

int main(int argc, char **argv)
{
    struct arguments a = {
        .mode = "user",
        .sync = "everysec",
        .workers = "1",
        .max_value = "67108864",
        .max_memory = "268435456",
        .max_clients = "10000",
        .segment_size = "0",
        .reserve = "0",
        .request_timeout = "60",
    };
    struct store_options store = {.data = NULL};
    struct error err = {.code = ""};
    int status = parse_arguments(argc, argv, &a), r;
    sigset_t signals;

    if (status == 0)
        status = numbers(&a, &store);
    if (status != 0)
        return status;
    if (a.server.listener_count == 0)
        a.server.listeners[a.server.listener_count++] = "tcp:127.0.0.1:9900";
    /* before the store starts its threads: a signal is for the loop alone */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    r = run(&a, &store, &err);
    explicit_bzero(a.server.password, sizeof(a.server.password));
    if (r < 0) {
        if (!error_is_set(&err))
            error_set(&err, -r, "kv.failed", "", "%s", strerror(-r));
        log_error(&err, "kvd");
        return 1;
    }
    return r;
}
