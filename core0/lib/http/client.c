/*
 * client.c - HTTP requests.
 */
#include "lib/http/client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/buffer.h"
#include "lib/http/curl_loop.h"
#include "lib/http/pin.h"
#include "lib/http/url.h"

#define REFUSAL_MAX                                                                                \
    4096 /* bytes of a refusal's body that are kept when a sink takes the good ones */
#define DEFAULT_MAX_BODY ((uint64_t)1 << 20)
#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"

struct http_client {
    struct curl_loop *curl;
    char *ca_file;
};

struct http_transfer {
    struct curl_job job;
    struct curl_slist *headers;
    struct buffer body;
    uint64_t received;
    uint64_t max_body;
    http_data_fn *data;
    http_done_fn *done;
    void *user;
    unsigned flags;
    bool too_big;
    bool refused; /* by the sink */
    char origin[URL_ORIGIN_MAX];
    char reason[CURL_ERROR_SIZE];
};

int http_client_new(struct loop *loop, const struct http_client_options *options,
                    struct http_client **ret_client)
{
    static const struct http_client_options defaults = {.ca_file = NULL};
    if (options == NULL)
        options = &defaults;
    const char *ca_file = options->ca_file;
    if (ca_file == NULL)
        ca_file = getenv("CROFT_CA_FILE");
    if (ca_file == NULL)
        ca_file = CA_FILE;
    struct http_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    client->ca_file = strdup(ca_file);
    int r = client->ca_file == NULL
                ? -ENOMEM
                : curl_loop_new(loop, options->connections_max > 0 ? options->connections_max : 16,
                                &client->curl);
    if (r < 0) {
        free(client->ca_file);
        free(client);
        return r;
    }
    *ret_client = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    curl_loop_free(client->curl);
    free(client->ca_file);
    free(client);
}

static void release(struct curl_job *job)
{
    struct http_transfer *transfer = (struct http_transfer *)job;
    curl_slist_free_all(transfer->headers);
    buffer_done(&transfer->body);
    free(transfer);
}

static size_t on_write(char *data, size_t size, size_t count, void *user)
{
    struct http_transfer *transfer = user;
    size_t len = size * count;
    long status = 0;
    if (transfer->job.dropped)
        return CURL_WRITEFUNC_ERROR;
    curl_easy_getinfo(transfer->job.easy, CURLINFO_RESPONSE_CODE, &status);
    bool good = status / 100 == 2;
    transfer->received += len;
    if (transfer->data != NULL && !good) {
        size_t room = REFUSAL_MAX - transfer->body.len;
        return buffer_append(&transfer->body, data, len < room ? len : room) < 0
                   ? CURL_WRITEFUNC_ERROR
                   : len;
    }
    if (transfer->received > transfer->max_body) {
        transfer->too_big = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (transfer->data == NULL)
        return buffer_append(&transfer->body, data, len) < 0 ? CURL_WRITEFUNC_ERROR : len;
    if (transfer->data(data, len, transfer->user) != 0) {
        transfer->refused = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return transfer->job.dropped ? CURL_WRITEFUNC_ERROR : len;
}

static const struct failure {
    CURLcode result;
    int error;
    const char *code;
    const char *what;
} failures[] = {
    {CURLE_URL_MALFORMAT, EINVAL, "http.bad-url", "is no URL that can be fetched"},
    {CURLE_UNSUPPORTED_PROTOCOL, EINVAL, "http.bad-url", "is no http or https URL"},
    {CURLE_COULDNT_RESOLVE_HOST, EHOSTUNREACH, "http.unreachable",
     "has a name that does not resolve"},
    {CURLE_COULDNT_CONNECT, EHOSTUNREACH, "http.unreachable", "cannot be connected to"},
    {CURLE_OPERATION_TIMEDOUT, ETIMEDOUT, "http.timeout", "did not answer in time"},
    {CURLE_FILESIZE_EXCEEDED, EFBIG, "http.too-big", "answers with more than the limit"},
    {CURLE_TOO_MANY_REDIRECTS, ELOOP, "http.unreachable", "redirects too often"},
    {CURLE_PEER_FAILED_VERIFICATION, EPROTO, "http.tls",
     "has a certificate that is not trusted, or not valid at this machine's time"},
    {CURLE_SSL_PINNEDPUBKEYNOTMATCH, EPROTO, "http.wrong-key",
     "shows another key than the one that it must have"},
    {CURLE_SSL_CONNECT_ERROR, EPROTO, "http.tls", "does not speak TLS as we do"},
    {CURLE_SSL_CACERT_BADFILE, EPROTO, "http.tls",
     "cannot be checked: the bundle of certificates is missing"},
};

static void set_failure(const struct http_transfer *transfer, CURLcode result, struct error *err)
{
    static const struct failure other = {
        .error = EHOSTUNREACH, .code = "http.unreachable", .what = "broke the connection off"};
    const struct failure *failure = &other;
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        if (failures[i].result == result)
            failure = &failures[i];
    }
    error_set(err, failure->error, failure->code, "", "%s %s%s%s", transfer->origin, failure->what,
              transfer->reason[0] != '\0' ? ": " : "", transfer->reason);
}

static void on_done(struct curl_job *job, CURLcode result)
{
    struct http_transfer *transfer = (struct http_transfer *)job;
    struct http_response response = {.received = transfer->received, .content_type = ""};
    struct error err = {.code = ""};
    const char *type = NULL;
    long status = 0;

    curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
    if (curl_easy_getinfo(job->easy, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type != NULL)
        response.content_type = type;
    response.status = (int)status;
    if (transfer->data == NULL || status / 100 != 2) {
        response.body = transfer->body.data != NULL ? transfer->body.data : (const uint8_t *)"";
        response.body_len = transfer->body.len;
    }
    if (transfer->too_big)
        set_failure(transfer, CURLE_FILESIZE_EXCEEDED, &err);
    else if (transfer->refused)
        error_set(&err, ECANCELED, "http.aborted", "", "%s: the receiver refused the data",
                  transfer->origin);
    else if (result != CURLE_OK)
        set_failure(transfer, result, &err);
    else if ((transfer->flags & HTTP_FAIL_ON_STATUS) != 0 && status / 100 != 2)
        error_set(&err, EPROTO, "http.status", "", "%s answered with status %ld", transfer->origin,
                  status);
    transfer->done(&response, error_is_set(&err) ? &err : NULL, transfer->user);
    curl_loop_drop(job);
}

static long milliseconds(uint64_t us, uint64_t fallback_us)
{
    if (us == 0)
        us = fallback_us;
    if (us == UINT64_MAX)
        return 0; /* libcurl: no limit */
    uint64_t ms = us / 1000 + (us % 1000 != 0);
    return ms > 86400000 ? 86400000L : (long)ms;
}

static int set_options(struct http_client *client, struct http_transfer *transfer,
                       const struct http_request *request)
{
    CURL *easy = transfer->job.easy;
    const char *method = request->method;
    uint64_t stall_s =
        (request->stall_timeout_us > 0 ? request->stall_timeout_us : 30000000) / 1000000;
    bool secure = strncasecmp(request->url, "https:", 6) == 0;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY,
                     ""); /* the environment must not decide who sees our requests */
    curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->reason);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(request->timeout_us, 60000000));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     milliseconds(request->connect_timeout_us, 10000000));
    if (request->stall_timeout_us != UINT64_MAX) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT,
                         request->stall_rate > 0 ? (long)request->stall_rate : 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, stall_s > 0 ? (long)stall_s : 1L);
    }
    if (transfer->max_body <= INT64_MAX)
        curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)transfer->max_body);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "croft");
    if (curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK)
        return -ENOMEM;
    if (request->pinned_key != NULL && curl_pin(easy, request->pinned_key) < 0)
        return -ENOMEM;

    if (request->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        if (curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body) != CURLE_OK)
            return -ENOMEM;
    } else if ((request->flags & HTTP_NO_REDIRECT) == 0) {
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(easy, CURLOPT_MAXREDIRS, 5L);
    }
    if (method != NULL && strcmp(method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (method != NULL)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);

    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no pause before a body */
    if (request->body != NULL && list != NULL) {
        char line[160];
        snprintf(line, sizeof(line), "Content-Type: %s",
                 request->content_type != NULL ? request->content_type : "application/json");
        transfer->headers = list;
        list = curl_slist_append(list, line);
    }
    for (size_t i = 0; list != NULL && request->headers != NULL && request->headers[i] != NULL;
         i++) {
        transfer->headers = list;
        list = curl_slist_append(list, request->headers[i]);
    }
    if (list == NULL)
        return -ENOMEM;
    transfer->headers = list;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
    return 0;
}

int http_request_start(struct http_client *client, const struct http_request *request,
                       struct http_transfer **ret_transfer)
{
    char origin[URL_ORIGIN_MAX];
    if ((strncasecmp(request->url, "http://", 7) != 0 &&
         strncasecmp(request->url, "https://", 8) != 0) ||
        url_origin(request->url, origin) < 0)
        return -EINVAL;
    struct http_transfer *transfer = calloc(1, sizeof(*transfer));
    if (transfer == NULL)
        return -ENOMEM;
    memcpy(transfer->origin, origin, sizeof(origin));
    transfer->max_body = request->max_body > 0 ? request->max_body : DEFAULT_MAX_BODY;
    bool collects = request->data == NULL && transfer->max_body > REFUSAL_MAX;
    buffer_init(&transfer->body, collects ? (size_t)transfer->max_body : REFUSAL_MAX);
    transfer->data = request->data;
    transfer->done = request->done;
    transfer->user = request->user;
    transfer->flags = request->flags;
    transfer->job.done = on_done;
    transfer->job.release = release;
    transfer->job.easy = curl_easy_init();
    int r = transfer->job.easy == NULL ? -ENOMEM : set_options(client, transfer, request);
    if (r < 0) {
        if (transfer->job.easy != NULL)
            curl_easy_cleanup(transfer->job.easy);
        release(&transfer->job);
        return r;
    }
    curl_loop_add(client->curl, &transfer->job);
    if (ret_transfer != NULL)
        *ret_transfer = transfer;
    return 0;
}

void http_transfer_cancel(struct http_transfer *transfer)
{
    if (transfer != NULL)
        curl_loop_drop(&transfer->job);
}

int http_transfer_head(const struct http_transfer *transfer, const char *name,
                       const char **ret_value)
{
    struct curl_header *header = NULL;
    long status = 0;

    *ret_value = "";
    curl_easy_getinfo(transfer->job.easy, CURLINFO_RESPONSE_CODE, &status);
    if (curl_easy_header(transfer->job.easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
        *ret_value = header->value;
    return (int)status;
}
