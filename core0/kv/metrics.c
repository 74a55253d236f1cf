/*
 * metrics.c - see metrics.h.
 */
#include "metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "address.h"
#include "lib/buffer.h"
#include "lib/daemon.h"
#include "lib/http/server.h"
#include "replica.h"

struct totals {
    uint64_t commands, failed, unauthorized, timed_out, received, sent;
};

static void totals(const struct server *server, struct totals *ret)
{
    *ret = (struct totals){.commands = 0};
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct worker_counters *c = &server->workers[i].counters;

        ret->commands += atomic_load_explicit(&c->commands, memory_order_relaxed);
        ret->failed += atomic_load_explicit(&c->failed, memory_order_relaxed);
        ret->unauthorized += atomic_load_explicit(&c->unauthorized, memory_order_relaxed);
        ret->timed_out += atomic_load_explicit(&c->timed_out, memory_order_relaxed);
        ret->received += atomic_load_explicit(&c->received, memory_order_relaxed);
        ret->sent += atomic_load_explicit(&c->sent, memory_order_relaxed);
    }
}

/* ---- INFO ---- */

size_t metrics_info(const struct server *server, char *ret_text, size_t size)
{
    struct store_stats stats;
    struct totals t;
    int len;

    store_stats(server->store, &stats);
    totals(server, &t);
    len = snprintf(
        ret_text, size,
        "# server\nserver_name: kvd (croft)\nserver_revision: %s\nboot_time: %llu\nuptime: %lld\n"
        "workers: %u\nrole: %s\nreplicas: %u\n"
        "\n# clients\nclients: %u\nclients_lifetime: %llu\nclients_refused: %llu\n"
        "clients_timed_out: %llu\n"
        "\n# internals\nsequential_key_size: %d\nmemory_index_bytes: %llu\n"
        "memory_cache_bytes: %llu\nmemory_connections_bytes: %zu\n"
        "\n# stats\ncommands_executed: %llu\ncommands_failed: %llu\ncommands_unauthorized: %llu\n"
        "data_disk_write_bytes: %llu\ndata_disk_write_mb: %.2f\ndata_compacted_bytes: %llu\n"
        "data_syncs: %llu\ndata_sync_usec: %llu\ndata_damaged: %llu\ndata_disk_failed: %s\n"
        "data_disk_failure: %s\nnetwork_rx_bytes: %llu\nnetwork_rx_mb: %.2f\n"
        "network_tx_bytes: %llu\nnetwork_tx_mb: %.2f\n",
        daemon_version(), (unsigned long long)server->started_s,
        (long long)time(NULL) - (long long)server->started_s, server->worker_count,
        server->replica != NULL ? "replica" : "primary", followers_count(server),
        atomic_load(&server->clients), (unsigned long long)atomic_load(&server->clients_lifetime),
        (unsigned long long)atomic_load(&server->clients_refused), (unsigned long long)t.timed_out,
        STORE_SEQ_KEY, (unsigned long long)stats.memory, (unsigned long long)stats.cache,
        atomic_load(&server->memory.used), (unsigned long long)t.commands,
        (unsigned long long)t.failed, (unsigned long long)t.unauthorized,
        (unsigned long long)stats.bytes_written, (double)stats.bytes_written / (1 << 20),
        (unsigned long long)stats.bytes_compacted, (unsigned long long)stats.syncs,
        (unsigned long long)stats.sync_usec, (unsigned long long)stats.damaged,
        stats.failed != 0 ? "yes" : "no", stats.failed_text, (unsigned long long)t.received,
        (double)t.received / (1 << 20), (unsigned long long)t.sent, (double)t.sent / (1 << 20));
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

/* ---- Prometheus ---- */

static void metric(struct buffer *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    (void)buffer_printf(out, "# HELP kvd_%s %s\n# TYPE kvd_%s %s\nkvd_%s %llu\n", name, help, name,
                        type, name, (unsigned long long)value);
}

/* A label's value: quotes, backslashes and line breaks are escaped, as the text format asks. */
static void label(struct buffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)buffer_printf(out, "\\%c", *text);
        else if ((unsigned char)*text >= ' ')
            (void)buffer_append(out, text, 1);
    }
}

static const struct namespace_metric {
    const char *name, *help;
    uint64_t (*value)(const struct store_info *);
} namespace_metrics[];

struct listing {
    struct buffer *out;
    const struct namespace_metric *metric;
};

static int list_namespace(void *ctx, const struct store_info *info)
{
    struct listing *listing = ctx;

    (void)buffer_printf(listing->out, "kvd_namespace_%s{namespace=\"", listing->metric->name);
    label(listing->out, info->name);
    return buffer_printf(listing->out, "\"} %llu\n",
                         (unsigned long long)listing->metric->value(info));
}

static uint64_t ns_entries(const struct store_info *info)
{
    return info->entries;
}
static uint64_t ns_bytes(const struct store_info *info)
{
    return info->bytes;
}
static uint64_t ns_limit(const struct store_info *info)
{
    return info->properties.maxsize;
}
static uint64_t ns_disk(const struct store_info *info)
{
    return info->disk_bytes;
}
static uint64_t ns_memory(const struct store_info *info)
{
    return info->index_memory;
}
static uint64_t ns_damaged(const struct store_info *info)
{
    return info->damaged;
}

static const struct namespace_metric namespace_metrics[] = {
    {"keys", "keys alive", ns_entries},
    {"data_bytes", "bytes of keys and values alive", ns_bytes},
    {"limit_bytes", "maxsize, 0: none", ns_limit},
    {"disk_bytes", "bytes of segments, dead records included", ns_disk},
    {"index_bytes", "bytes of the index in memory", ns_memory},
    {"damaged_ranges", "damaged ranges found", ns_damaged},
    {NULL, NULL, NULL},
};

static void page(const struct server *server, struct buffer *out)
{
    struct store_stats stats;
    struct totals t;

    store_stats(server->store, &stats);
    totals(server, &t);
    metric(out, "commands_total", "counter", "commands executed", t.commands);
    metric(out, "commands_failed_total", "counter", "commands answered with an error", t.failed);
    metric(out, "commands_unauthorized_total", "counter", "commands refused for want of a right",
           t.unauthorized);
    metric(out, "received_bytes_total", "counter", "bytes of requests", t.received);
    metric(out, "sent_bytes_total", "counter", "bytes of answers", t.sent);
    metric(out, "clients", "gauge", "connections", atomic_load(&server->clients));
    metric(out, "clients_total", "counter", "connections taken",
           atomic_load(&server->clients_lifetime));
    metric(out, "clients_refused_total", "counter", "connections beyond the limit",
           atomic_load(&server->clients_refused));
    metric(out, "clients_timed_out_total", "counter", "connections closed for being too slow",
           t.timed_out);
    metric(out, "connection_memory_bytes", "gauge", "large requests and answers in memory",
           atomic_load(&server->memory.used));
    metric(out, "replicas", "gauge", "replicas that follow", followers_count(server));
    metric(out, "sets_total", "counter", "values written", stats.sets);
    metric(out, "unchanged_total", "counter", "values that were the same", stats.unchanged);
    metric(out, "dels_total", "counter", "keys deleted", stats.dels);
    metric(out, "gets_total", "counter", "values asked for", stats.gets);
    metric(out, "hits_total", "counter", "values found", stats.hits);
    metric(out, "written_bytes_total", "counter", "bytes written to segments by clients",
           stats.bytes_written);
    metric(out, "compacted_bytes_total", "counter", "bytes written to segments by compaction",
           stats.bytes_compacted);
    metric(out, "compactions_total", "counter", "segments compacted", stats.compactions);
    metric(out, "syncs_total", "counter", "fdatasync calls", stats.syncs);
    metric(out, "sync_microseconds_total", "counter", "time spent in fdatasync", stats.sync_usec);
    metric(out, "damaged_total", "counter", "reads that met damage", stats.damaged);
    metric(out, "disk_failed", "gauge", "1: the disk failed, writes are refused",
           stats.failed != 0);
    metric(out, "disk_free_bytes", "gauge", "free bytes of the data's file system",
           stats.disk_free);
    metric(out, "memory_bytes", "gauge", "bytes of indexes and buffers", stats.memory);
    metric(out, "namespaces", "gauge", "namespaces", stats.namespaces);
    for (const struct namespace_metric *m = namespace_metrics; m->name != NULL; m++) {
        struct listing listing = {.out = out, .metric = m};

        (void)buffer_printf(out, "# HELP kvd_namespace_%s %s\n# TYPE kvd_namespace_%s gauge\n",
                            m->name, m->help, m->name);
        (void)store_namespace_list(server->store, list_namespace, &listing);
    }
}

static void serve(struct http_exchange *exchange, void *data)
{
    struct server *server = data;
    struct buffer out;

    if (strcmp(http_exchange_path(exchange), "/metrics") != 0) {
        http_exchange_reply(exchange, 404, "text/plain", "not found\n", 10);
        return;
    }
    if (strcmp(http_exchange_method(exchange), "GET") != 0) {
        http_exchange_reply(exchange, 405, "text/plain", "GET only\n", 9);
        return;
    }
    buffer_init(&out, 0);
    page(server, &out);
    http_exchange_reply(exchange, 200, "text/plain; version=0.0.4", out.data, out.len);
    buffer_done(&out);
}

int metrics_start(struct server *server, struct error *err)
{
    const char *text = server->options.metrics, *port_text;
    char host[ADDRESS_HOST_MAX];
    uint64_t port;
    int r;

    if (address_split(text, host, &port_text) < 0 ||
        resp_number((const uint8_t *)port_text, strlen(port_text), 65535, &port) < 0)
        return error_set(err, EINVAL, "kv.listen", "give --metrics ADDRESS:PORT",
                         "cannot listen on %s", text);
    r = http_server_new(server->loop, NULL, serve, server, &server->http);
    if (r < 0)
        return error_set(err, -r, "kv.no-memory", "", "no memory for the metrics");
    r = http_server_listen(server->http, host[0] != '\0' ? host : NULL, (uint16_t)port,
                           &server->metrics_port, err);
    return r;
}
