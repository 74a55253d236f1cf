/*
 * queue.c - the queue and its file.
 */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"

#define FILE_MAX ((size_t)1 << 20)
#define CODE "node.queue-damaged"

static int read_item(yyjson_val *value, struct queue_item *item)
{
    const char *name = yyjson_get_str(yyjson_obj_get(value, "kind"));
    enum grid_kind kind;
    if (name == NULL || grid_kind_find(name, &kind) < 0 || kind == GRID_JOIN)
        return -EBADMSG; /* a join has no nonce: it is made anew while it is wanted */
    char *text = yyjson_val_write(yyjson_obj_get(value, "body"), 0, NULL);
    if (text == NULL)
        return -EBADMSG;
    int r = grid_message_from_json(kind, text, strlen(text), &item->message, NULL);
    free(text);
    if (r < 0)
        return r;
    item->nonce = grid_message_nonce(&item->message);
    item->round = (uint32_t)yyjson_get_uint(yyjson_obj_get(value, "round"));
    return 0;
}

static int read_done(yyjson_val *value, struct queue_result *result)
{
    result->nonce = yyjson_get_uint(yyjson_arr_get(value, 0));
    result->reservation = yyjson_get_uint(yyjson_arr_get(value, 1));
    result->revision = (uint32_t)yyjson_get_uint(yyjson_arr_get(value, 2));
    result->state = (unsigned)yyjson_get_uint(yyjson_arr_get(value, 3));
    result->round = (uint32_t)yyjson_get_uint(yyjson_arr_get(value, 4)); /* 0 where there is none */
    return yyjson_arr_size(value) == 4 || yyjson_arr_size(value) == 5 ? 0 : -EBADMSG;
}

static bool is_of(const struct queue *queue, yyjson_val *root)
{
    uint8_t registry[20];
    const char *text = yyjson_get_str(yyjson_obj_get(root, "registry"));
    return text != NULL && hex_decode(text, registry, 20) == 0 &&
           memcmp(registry, queue->registry, 20) == 0 &&
           yyjson_get_uint(yyjson_obj_get(root, "chainId")) == queue->chain_id;
}

/* A registration is signed anew at every start: farm or token may be other ones now. */
static void drop_registrations(struct queue *queue)
{
    size_t kept = 0;
    for (size_t i = 0; i < queue->count; i++) {
        struct queue_item *item = &queue->items[i];
        if (item->message.kind == GRID_REGISTER)
            continue;
        if (kept != i) {
            grid_message_copy(&item->message, &queue->items[kept].message);
            queue->items[kept].nonce = item->nonce;
            queue->items[kept].round = item->round;
        }
        kept++;
    }
    queue->count = kept;
}

int queue_open(struct queue *queue, const char *path, const uint8_t boot_id[32], uint64_t chain_id,
               const uint8_t registry[20], struct error *err)
{
    char *text = NULL;
    size_t len, index, max;
    yyjson_val *item;
    uint8_t written_by[32];
    memset(queue, 0, sizeof(*queue));
    queue->path = path;
    memcpy(queue->boot_id, boot_id, 32);
    queue->chain_id = chain_id;
    memcpy(queue->registry, registry, 20);
    int r = file_read(path, FILE_MAX, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(err, -r, CODE, "", "%s: %s", path, strerror(-r));
    yyjson_doc *doc = json_parse(text, len, FILE_MAX, CODE, err);
    free(text);
    if (doc == NULL)
        return -EBADMSG;
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!is_of(queue, root)) {
        yyjson_doc_free(doc);
        return 0;
    }
    const char *boot = yyjson_get_str(yyjson_obj_get(root, "boot"));
    yyjson_val *pending = yyjson_obj_get(root, "pending");
    yyjson_val *done = yyjson_obj_get(root, "done");
    if (boot == NULL || hex_decode(boot, written_by, 32) < 0 ||
        yyjson_arr_size(pending) > QUEUE_MAX || yyjson_arr_size(done) > QUEUE_DONE_MAX)
        r = -EBADMSG;
    yyjson_arr_foreach(pending, index, max, item)
    {
        if (r >= 0)
            r = read_item(item, &queue->items[queue->count++]);
    }
    yyjson_arr_foreach(done, index, max, item)
    {
        if (r >= 0)
            r = read_done(item, &queue->done[queue->done_count++]);
    }
    if (r >= 0)
        queue->reported = memcmp(written_by, boot_id, 32) == 0 &&
                          yyjson_get_bool(yyjson_obj_get(root, "reported"));
    if (r >= 0)
        queue->reached = memcmp(written_by, boot_id, 32) == 0
                             ? yyjson_get_uint(yyjson_obj_get(root, "reached"))
                             : 0;
    queue->accepted = queue->reached > 0;
    if (r >= 0)
        drop_registrations(queue);
    yyjson_doc_free(doc);
    return r < 0 ? error_set(err, EBADMSG, CODE, "", "%s does not read", path) : 0;
}

int queue_write(const struct queue *queue, struct error *err)
{
    struct buffer out;
    char boot[65], registry[43];
    hex_encode(queue->boot_id, 32, boot);
    hex_encode_0x(queue->registry, 20, registry);
    buffer_init(&out, FILE_MAX);
    int r = buffer_printf(&out,
                          "{\"boot\":\"%s\",\"chainId\":%llu,\"registry\":\"%s\",\"reached\":%llu,"
                          "\"reported\":%s,\"pending\":[",
                          boot, (unsigned long long)queue->chain_id, registry,
                          (unsigned long long)queue->reached, queue->reported ? "true" : "false");
    for (size_t i = 0; i < queue->count && r >= 0; i++) {
        r = buffer_printf(&out, "%s{\"kind\":\"%s\",\"round\":%u,\"body\":", i > 0 ? "," : "",
                          grid_kinds[queue->items[i].message.kind].name, queue->items[i].round);
        if (r >= 0)
            r = grid_message_to_json(&queue->items[i].message, &out);
        if (r >= 0)
            r = buffer_append_str(&out, "}");
    }
    if (r >= 0)
        r = buffer_append_str(&out, "],\"done\":[");
    for (size_t i = 0; i < queue->done_count && r >= 0; i++)
        r = buffer_printf(&out, "%s[%llu,%llu,%u,%u,%u]", i > 0 ? "," : "",
                          (unsigned long long)queue->done[i].nonce,
                          (unsigned long long)queue->done[i].reservation, queue->done[i].revision,
                          queue->done[i].state, queue->done[i].round);
    if (r >= 0)
        r = buffer_append_str(&out, "]}\n");
    if (r >= 0)
        r = file_write_atomic(queue->path, out.data, out.len, 0600);
    buffer_done(&out);
    return r < 0 ? error_set(err, -r, "node.no-state", "look at the node's disks",
                             "%s cannot be written: %s", queue->path, strerror(-r))
                 : 0;
}

static void remember(struct queue *queue, const struct queue_item *item)
{
    if (item->message.kind != GRID_RESULT)
        return;
    if (queue->done_count == QUEUE_DONE_MAX)
        memmove(queue->done, queue->done + 1, --queue->done_count * sizeof(queue->done[0]));
    queue->done[queue->done_count++] = (struct queue_result){
        .nonce = item->nonce,
        .reservation = grid_message_uint(&item->message, "reservation"),
        .revision = (uint32_t)grid_message_uint(&item->message, "revision"),
        .state = (unsigned)grid_message_uint(&item->message, "state"),
        .round = item->round,
    };
}

static void move_item(struct queue *queue, size_t from, size_t to)
{
    struct queue_item *item = &queue->items[from], *place = &queue->items[to];
    if (from == to)
        return;
    grid_message_copy(&item->message, &place->message);
    place->nonce = item->nonce;
    place->delivered_at = item->delivered_at;
    place->attempts = item->attempts;
    place->round = item->round;
    place->seen = item->seen;
}

/* The first ones are the oldest; a chain that finalizes slowly must not keep new messages out. */
static void drop_oldest_seen(struct queue *queue)
{
    if (queue->count == 0 || !queue->items[0].seen)
        return;
    remember(queue, &queue->items[0]);
    for (size_t i = 1; i < queue->count; i++)
        move_item(queue, i, i - 1);
    queue->count--;
}

int queue_add(struct queue *queue, const struct grid_message *message, uint32_t round,
              struct error *err)
{
    if (queue->count == QUEUE_MAX)
        drop_oldest_seen(queue);
    if (queue->count == QUEUE_MAX)
        return error_set(err, ENOSPC, "node.queue-full",
                         "the chain or the relay does not take them",
                         "%d messages wait for the chain already", QUEUE_MAX);
    struct queue_item *item = &queue->items[queue->count];
    grid_message_copy(message, &item->message);
    item->nonce = grid_message_uint(message, "nonce");
    item->delivered_at = 0;
    item->attempts = 0;
    item->round = round;
    item->seen = false;
    queue->count++;
    int r = queue_write(queue, err);
    if (r < 0)
        queue->count--;
    return r;
}

bool queue_is_ours(const struct queue *queue, uint64_t chain_nonce, const uint8_t chain_boot_id[32])
{
    return !queue->accepted || memcmp(chain_boot_id, queue->boot_id, 32) == 0 ||
           chain_nonce < queue->reached;
}

/* What the chain's nonce and boot id say about ours. True: something changed. */
static bool settle_boot(struct queue *queue, uint64_t chain_nonce, const uint8_t chain_boot_id[32])
{
    bool ours = memcmp(chain_boot_id, queue->boot_id, 32) == 0;
    uint64_t before = queue->reached;
    if (ours)
        queue->reached = chain_nonce;
    else if (chain_nonce < queue->reached)
        queue->reached = 0; /* a reorganisation: nothing of this boot is there any more */
    queue->accepted = queue->reached > 0;
    return queue->reached != before;
}

/* A result that went with a block below the final one is signed anew when provd says it again. */
static bool forget_lost(struct queue *queue, uint64_t chain_nonce)
{
    size_t kept = 0, before = queue->done_count;
    for (size_t i = 0; i < before; i++) {
        if (queue->done[i].nonce <= chain_nonce)
            queue->done[kept++] = queue->done[i];
    }
    queue->done_count = kept;
    return kept != before;
}

int queue_settle(struct queue *queue, uint64_t chain_nonce, uint64_t final_nonce,
                 const uint8_t chain_boot_id[32], struct error *err)
{
    size_t kept = 0;
    bool changed = settle_boot(queue, chain_nonce, chain_boot_id);
    changed |= forget_lost(queue, chain_nonce);
    for (size_t i = 0; i < queue->count; i++) {
        struct queue_item *item = &queue->items[i];
        bool this_boot =
            memcmp(grid_message_word(&item->message, "bootId"), queue->boot_id, 32) == 0;
        bool report = this_boot && item->message.kind == GRID_REPORT;
        if (item->nonce > chain_nonce) {
            if (item->seen) { /* a reorganisation took it back */
                item->delivered_at = 0;
                item->seen = false;
            }
        } else if (this_boot && !queue->accepted) {
            item->nonce = 0; /* somebody else's message has used its nonce */
            item->delivered_at = 0;
            item->seen = false;
            changed = true;
        } else {
            changed |= report && !queue->reported;
            queue->reported |= report;
            item->seen = true;
            if (item->nonce <= final_nonce) {
                remember(queue, item);
                changed = true;
                continue;
            }
        }
        move_item(queue, i, kept++);
    }
    queue->count = kept;
    return changed ? queue_write(queue, err) : 0;
}

int queue_clear(struct queue *queue, struct error *err)
{
    queue->count = 0;
    queue->done_count = 0;
    queue->reached = 0;
    queue->accepted = false;
    queue->reported = false;
    return queue_write(queue, err);
}

size_t queue_waiting(const struct queue *queue)
{
    size_t count = 0;
    for (size_t i = 0; i < queue->count; i++)
        count += !queue->items[i].seen;
    return count;
}

struct queue_item *queue_first(struct queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        if (!queue->items[i].seen)
            return &queue->items[i];
    }
    return NULL;
}

uint64_t queue_last_nonce(const struct queue *queue)
{
    uint64_t last = 0;
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->items[i].nonce > last)
            last = queue->items[i].nonce;
    }
    return last;
}

bool queue_has(const struct queue *queue, enum grid_kind kind)
{
    for (size_t i = 0; i < queue->count; i++) {
        if (!queue->items[i].seen && queue->items[i].message.kind == kind)
            return true;
    }
    return false;
}

uint64_t queue_find_result(const struct queue *queue, uint64_t reservation, uint32_t revision,
                           unsigned state, uint32_t round)
{
    for (size_t i = 0; i < queue->count; i++) {
        const struct grid_message *message = &queue->items[i].message;
        if (message->kind == GRID_RESULT &&
            grid_message_uint(message, "reservation") == reservation &&
            grid_message_uint(message, "revision") == revision &&
            grid_message_uint(message, "state") == state && queue->items[i].round == round)
            return queue->items[i].nonce;
    }
    for (size_t i = 0; i < queue->done_count; i++) {
        const struct queue_result *done = &queue->done[i];
        if (done->reservation == reservation && done->revision == revision &&
            done->state == state && done->round == round)
            return done->nonce;
    }
    return 0;
}
