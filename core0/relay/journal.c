/*
 * journal.c - what the relay must not forget: one JSON object a line, synced before anything follows from it.
 *
 *   {"op":"open","chainId":N,"registry":"0x…","account":"0x…"}        first line
 *   {"op":"received","id":N,"kind":"report","body":{…}}
 *   {"op":"signed","id":N,"accountNonce":N,"maxFee":N,"tip":N,"raw":"0x…"}   the last one of an id counts
 *   {"op":"done","id":N}
 *
 * A crash can tear the last line only: it is cut off. At the start the file is written anew with what is alive.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"
#include "relay.h"

#define FILE_MAX ((size_t)256 << 20)
#define LINE_MAX_BYTES ((size_t)65536)
#define CODE "relay.journal-damaged"

void entry_free(struct entry *entry)
{
    if (entry == NULL)
        return;
    free(entry->raw);
    free(entry);
}

int entry_identity(const struct relay *relay, const struct entry *entry, uint8_t ret_identity[20],
                   uint8_t ret_signer[20])
{
    int r = grid_message_signer(&entry->message, &relay->chain, ret_signer);
    const uint8_t *about = entry->message.kind == GRID_JOIN
                               ? grid_message_word(&entry->message, "node") + 12
                               : ret_signer;
    if (r >= 0)
        memmove(ret_identity, about, 20);
    return r;
}

void relay_add_entry(struct relay *relay, struct entry *entry)
{
    struct entry **at = &relay->entries;
    while (*at != NULL)
        at = &(*at)->next;
    entry->next = NULL;
    *at = entry;
    relay->entry_count++;
}

void relay_remove_entry(struct relay *relay, struct entry *entry)
{
    for (struct entry **at = &relay->entries; *at != NULL; at = &(*at)->next) {
        if (*at == entry) {
            *at = entry->next;
            relay->entry_count--;
            entry_free(entry);
            return;
        }
    }
}

static struct entry *find(struct relay *relay, uint64_t id)
{
    struct entry *entry = relay->entries;
    while (entry != NULL && entry->id != id)
        entry = entry->next;
    return entry;
}

/* ---- writing ---- */

static int put_open(const struct relay *relay, struct buffer *out)
{
    char registry[43], account[43];
    hex_encode_0x(relay->chain.registry, 20, registry);
    hex_encode_0x(relay->account, 20, account);
    return buffer_printf(
        out, "{\"op\":\"open\",\"chainId\":%llu,\"registry\":\"%s\",\"account\":\"%s\"}\n",
        (unsigned long long)relay->chain.chain_id, registry, account);
}

static int put_received(const struct entry *entry, struct buffer *out)
{
    int r = buffer_printf(out,
                          "{\"op\":\"received\",\"id\":%llu,\"kind\":\"%s\",\"gas\":%llu,\"body\":",
                          (unsigned long long)entry->id, grid_kinds[entry->message.kind].name,
                          (unsigned long long)entry->gas);
    if (r >= 0)
        r = grid_message_to_json(&entry->message, out);
    return r < 0 ? r : buffer_append_str(out, "}\n");
}

static int put_signed(const struct entry *entry, struct buffer *out)
{
    int r = buffer_printf(out,
                          "{\"op\":\"signed\",\"id\":%llu,\"accountNonce\":%llu,\"maxFee\":%llu,"
                          "\"tip\":%llu,\"raw\":\"",
                          (unsigned long long)entry->id, (unsigned long long)entry->account_nonce,
                          (unsigned long long)entry->max_fee, (unsigned long long)entry->tip);
    if (r >= 0)
        r = hex_append_0x(out, entry->raw, entry->raw_len);
    return r < 0 ? r : buffer_append_str(out, "\"}\n");
}

static int put_done(const struct entry *entry, struct buffer *out)
{
    return buffer_printf(out, "{\"op\":\"done\",\"id\":%llu}\n", (unsigned long long)entry->id);
}

static int append(struct relay *relay, int (*put)(const struct entry *, struct buffer *),
                  const struct entry *entry)
{
    struct buffer line;
    buffer_init(&line, LINE_MAX_BYTES);
    off_t end = lseek(relay->journal, 0, SEEK_END);
    int r = end < 0 ? -errno : put(entry, &line);
    if (r >= 0)
        r = file_write_all(relay->journal, line.data, line.len);
    if (r >= 0 && fdatasync(relay->journal) < 0)
        r = -errno;
    /* a half line must not stand before the next whole one */
    if (r < 0 && end >= 0 && ftruncate(relay->journal, end) < 0)
        abort();
    buffer_done(&line);
    return r < 0 ? r : 0;
}

int journal_received(struct relay *relay, const struct entry *entry)
{
    return append(relay, put_received, entry);
}

int journal_signed(struct relay *relay, const struct entry *entry)
{
    return append(relay, put_signed, entry);
}

int journal_done(struct relay *relay, const struct entry *entry)
{
    return append(relay, put_done, entry);
}

/* ---- reading ---- */

static int replay_open(struct relay *relay, yyjson_val *line, bool *ret_ours)
{
    uint8_t registry[20], account[20];
    const char *registry_text = yyjson_get_str(yyjson_obj_get(line, "registry"));
    const char *account_text = yyjson_get_str(yyjson_obj_get(line, "account"));
    if (registry_text == NULL || account_text == NULL ||
        hex_decode(registry_text, registry, 20) < 0 || hex_decode(account_text, account, 20) < 0)
        return -EBADMSG;
    *ret_ours = yyjson_get_uint(yyjson_obj_get(line, "chainId")) == relay->chain.chain_id &&
                memcmp(registry, relay->chain.registry, 20) == 0 &&
                memcmp(account, relay->account, 20) == 0;
    return 0;
}

static int replay_received(struct relay *relay, yyjson_val *line, uint64_t id)
{
    const char *name = yyjson_get_str(yyjson_obj_get(line, "kind"));
    enum grid_kind kind;
    if (name == NULL || grid_kind_find(name, &kind) < 0 || find(relay, id) != NULL)
        return -EBADMSG;
    uint8_t signer[20];
    char *text = yyjson_val_write(yyjson_obj_get(line, "body"), 0, NULL);
    struct entry *entry = calloc(1, sizeof(*entry));
    int r = text == NULL || entry == NULL
                ? -ENOMEM
                : grid_message_from_json(kind, text, strlen(text), &entry->message, NULL);
    free(text);
    if (r >= 0) {
        entry->id = id;
        entry->gas = yyjson_get_uint(yyjson_obj_get(line, "gas"));
        entry->nonce = grid_message_nonce(&entry->message);
        r = grid_message_digest(&entry->message, &relay->chain, entry->digest);
    }
    if (r >= 0)
        r = entry_identity(relay, entry, entry->identity, signer);
    if (r < 0) {
        entry_free(entry);
        return r;
    }
    relay_add_entry(relay, entry);
    return 0;
}

static int replay_signed(struct relay *relay, yyjson_val *line, uint64_t id)
{
    struct entry *entry = find(relay, id);
    struct buffer raw;
    if (entry == NULL)
        return -EBADMSG;
    buffer_init(&raw, LINE_MAX_BYTES);
    int r = eth_rpc_bytes_buffer(yyjson_obj_get(line, "raw"), &raw);
    if (r >= 0 && raw.len > 0) {
        free(entry->raw);
        entry->raw = buffer_steal(&raw, &entry->raw_len);
        keccak256(entry->raw, entry->raw_len, entry->hash);
        entry->account_nonce = yyjson_get_uint(yyjson_obj_get(line, "accountNonce"));
        entry->max_fee = yyjson_get_uint(yyjson_obj_get(line, "maxFee"));
        entry->tip = yyjson_get_uint(yyjson_obj_get(line, "tip"));
        entry->tx = true;
    }
    buffer_done(&raw);
    return r < 0 ? r : 0;
}

static int replay_line(struct relay *relay, const char *text, size_t len, bool first, bool *ours)
{
    yyjson_doc *doc = json_parse(text, len, LINE_MAX_BYTES, CODE, NULL);
    yyjson_val *line = yyjson_doc_get_root(doc);
    const char *op = yyjson_get_str(yyjson_obj_get(line, "op"));
    uint64_t id = yyjson_get_uint(yyjson_obj_get(line, "id"));
    int r = -EBADMSG;
    if (op == NULL || first != (strcmp(op, "open") == 0))
        r = -EBADMSG;
    else if (first)
        r = replay_open(relay, line, ours);
    else if (!*ours)
        r = strcmp(op, "received") == 0 || strcmp(op, "signed") == 0 || strcmp(op, "done") == 0
                ? 0
                : -EBADMSG;
    else if (strcmp(op, "received") == 0)
        r = replay_received(relay, line, id);
    else if (strcmp(op, "signed") == 0)
        r = replay_signed(relay, line, id);
    else if (strcmp(op, "done") == 0) {
        relay_remove_entry(relay, find(relay, id));
        r = 0;
    }
    if (id >= relay->next_id)
        relay->next_id = id + 1;
    yyjson_doc_free(doc);
    return r;
}

static int replay(struct relay *relay, char *text, size_t len, struct error *err)
{
    bool first = true, ours = false;
    for (size_t at = 0, number = 1; at < len; number++) {
        char *end = memchr(text + at, '\n', len - at);
        if (end == NULL) /* torn by a crash: it was never acted upon */
            break;
        size_t line_len = (size_t)(end - (text + at));
        if (replay_line(relay, text + at, line_len, first, &ours) < 0)
            return error_set(err, EBADMSG, CODE,
                             "look at it before moving it away: reports may be lost",
                             "line %zu of %s does not read", number, relay->journal_path);
        first = false;
        at += line_len + 1;
    }
    if (!first && !ours)
        return error_set(err, EPERM, "relay.other-journal",
                         "give every chain, registry and account its own --state folder",
                         "%s is of another chain, registry or account", relay->journal_path);
    return 0;
}

int journal_open(struct relay *relay, const char *path, struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    struct buffer fresh;
    relay->journal_path = path;
    relay->next_id = 1;
    int r = file_read(path, FILE_MAX, &text, &len);
    if (r < 0 && r != -ENOENT)
        return error_set(err, -r, "relay.no-journal", "", "%s cannot be read: %s", path,
                         strerror(-r));
    r = text != NULL ? replay(relay, text, len, err) : 0;
    free(text);
    if (r < 0)
        return r;
    buffer_init(&fresh, FILE_MAX);
    r = put_open(relay, &fresh);
    for (struct entry *entry = relay->entries; entry != NULL && r >= 0; entry = entry->next) {
        r = put_received(entry, &fresh);
        if (r >= 0 && entry->tx)
            r = put_signed(entry, &fresh);
    }
    if (r >= 0)
        r = file_write_atomic(path, fresh.data, fresh.len, 0600);
    buffer_done(&fresh);
    if (r >= 0) {
        relay->journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        r = relay->journal < 0 ? -errno : 0;
    }
    return r < 0 ? error_set(err, -r, "relay.no-journal", "", "%s cannot be written: %s", path,
                             strerror(-r))
                 : 0;
}
