/*
 * ledger_json.c - the list in provd's state folder.
 *
 * The file is written by provd alone, but a disk may come back with anything on it: it is read with the same strictness as
 * input from outside, and what does not parse is thrown away and read from the chain again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/json.h"
#include "provision/ledger.h"

#define BAD "provision.bad-state"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put_hex(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, const void *data,
                    size_t len)
{
    char text[2 * LEDGER_SEALED_INLINE_MAX + 1];
    hex_encode(data, len, text);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

static yyjson_mut_val *content_to_json(const struct ledger_content *content, yyjson_mut_doc *doc)
{
    yyjson_mut_val *object = yyjson_mut_obj(doc);

    put_hex(doc, object, "tenant", content->tenant, 20);
    yyjson_mut_obj_add_uint(doc, object, "keyEpoch", content->key_epoch);
    put_hex(doc, object, "resources", content->resources, 32);
    put_hex(doc, object, "contentHash", content->content_hash, 32);
    put_hex(doc, object, "sealedHash", content->sealed_hash, 32);
    put_hex(doc, object, "blob", content->blob, 32);
    yyjson_mut_obj_add_uint(doc, object, "approveBy", content->approve_by);
    yyjson_mut_obj_add_uint(doc, object, "deployBy", content->deploy_by);
    yyjson_mut_obj_add_uint(doc, object, "keep", content->keep);
    yyjson_mut_obj_add_bool(doc, object, "replace", content->replace);
    put_hex(doc, object, "sealed", content->sealed, content->sealed_len);
    yyjson_mut_val *hubs = yyjson_mut_obj_add_arr(doc, object, "hubs");
    for (size_t i = 0; i < content->hub_count; i++) {
        yyjson_mut_arr_add_strcpy(doc, hubs, content->hubs[i]);
    }
    return object;
}

yyjson_mut_val *ledger_to_json(const struct ledger *ledger, yyjson_mut_doc *doc)
{
    yyjson_mut_val *object = yyjson_mut_obj(doc);

    yyjson_mut_obj_add_uint(doc, object, "chainId", ledger->scope.chain_id);
    put_hex(doc, object, "reservations", ledger->scope.reservations, 20);
    yyjson_mut_obj_add_uint(doc, object, "node", ledger->scope.node);
    yyjson_mut_obj_add_uint(doc, object, "sequence", ledger->sequence);
    yyjson_mut_obj_add_uint(doc, object, "lastBlock", ledger->last_block);
    put_hex(doc, object, "head", ledger->head, 32);
    yyjson_mut_val *revisions = yyjson_mut_obj_add_arr(doc, object, "revisions");
    for (size_t i = 0; i < ledger->count; i++) {
        const struct ledger_revision *entry = &ledger->revisions[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, revisions);
        yyjson_mut_obj_add_uint(doc, item, "id", entry->id);
        yyjson_mut_obj_add_uint(doc, item, "revision", entry->revision);
        yyjson_mut_obj_add_uint(doc, item, "state", entry->state);
        put_hex(doc, item, "reason", entry->reason, 32);
        put_hex(doc, item, "commitment", entry->commitment, 32);
        yyjson_mut_obj_add_uint(doc, item, "changed", entry->changed);
        yyjson_mut_obj_add_uint(doc, item, "sequence", entry->sequence);
        yyjson_mut_obj_add_uint(doc, item, "round", entry->round);
        if (entry->content != NULL) {
            yyjson_mut_obj_add_val(doc, item, "content", content_to_json(entry->content, doc));
        }
    }
    return object;
}

static int content_from_json(yyjson_val *object, struct ledger_content **ret_content,
                             struct error *err)
{
    struct read {
        const char *tenant, *resources, *content_hash, *sealed_hash, *blob, *sealed;
        uint64_t key_epoch, approve_by, deploy_by, keep;
        bool replace;
        yyjson_val *hubs;
    } read = {0};
#define FIELD(name, type, field, max)                                                              \
    {                                                                                              \
        name, type, offsetof(struct read, field), true, 0, max                                     \
    }
    static const struct json_field fields[] = {
        FIELD("tenant", JSON_STRING, tenant, 40),
        FIELD("keyEpoch", JSON_UINT, key_epoch, UINT32_MAX),
        FIELD("resources", JSON_STRING, resources, 64),
        FIELD("contentHash", JSON_STRING, content_hash, 64),
        FIELD("sealedHash", JSON_STRING, sealed_hash, 64),
        FIELD("blob", JSON_STRING, blob, 64),
        FIELD("approveBy", JSON_UINT, approve_by, 0),
        FIELD("deployBy", JSON_UINT, deploy_by, 0),
        FIELD("keep", JSON_UINT, keep, UINT32_MAX),
        FIELD("replace", JSON_BOOL, replace, 0),
        FIELD("sealed", JSON_STRING, sealed, (uint64_t)2 * LEDGER_SEALED_INLINE_MAX),
        FIELD("hubs", JSON_ARRAY, hubs, LEDGER_HUBS_MAX),
    };
#undef FIELD
    int ret = json_read(object, fields, COUNT(fields), 0, &read, BAD, err);
    if (ret < 0) {
        return ret;
    }
    struct ledger_content *content = calloc(1, sizeof(*content));
    if (content == NULL) {
        return -ENOMEM;
    }
    content->key_epoch = (uint32_t)read.key_epoch;
    content->approve_by = read.approve_by;
    content->deploy_by = read.deploy_by;
    content->keep = (uint32_t)read.keep;
    content->replace = read.replace;
    content->sealed_len = strlen(read.sealed) / 2;
    content->sealed = malloc(content->sealed_len + 1);
    if (content->sealed == NULL || hex_decode(read.tenant, content->tenant, 20) < 0 ||
        hex_decode(read.resources, content->resources, 32) < 0 ||
        hex_decode(read.content_hash, content->content_hash, 32) < 0 ||
        hex_decode(read.sealed_hash, content->sealed_hash, 32) < 0 ||
        hex_decode(read.blob, content->blob, 32) < 0 ||
        hex_decode(read.sealed, content->sealed, content->sealed_len) < 0) {
        goto wrong;
    }
    size_t i, max;
    yyjson_val *hub;
    yyjson_arr_foreach(read.hubs, i, max, hub)
    {
        if (!yyjson_is_str(hub) || yyjson_get_len(hub) > LEDGER_HUB_SIZE_MAX) {
            goto wrong;
        }
        memcpy(content->hubs[content->hub_count++], yyjson_get_str(hub), yyjson_get_len(hub));
    }
    *ret_content = content;
    return 0;
wrong:
    free(content->sealed);
    free(content);
    return error_set(err, EINVAL, BAD, "", "the kept list of reservations is damaged");
}

static int revision_from_json(yyjson_val *object, struct ledger_revision *entry, struct error *err)
{
    struct read {
        uint64_t id, revision, state, changed, sequence, round;
        const char *reason, *commitment;
        yyjson_val *content;
    } read = {0};
    static const struct json_field fields[] = {
        {"id", JSON_UINT, offsetof(struct read, id), true, 1, 0},
        {"revision", JSON_UINT, offsetof(struct read, revision), true, 1, UINT32_MAX},
        {"state", JSON_UINT, offsetof(struct read, state), true, 0, CHAIN_STATES - 1},
        {"reason", JSON_STRING, offsetof(struct read, reason), true, 0, 64},
        {"commitment", JSON_STRING, offsetof(struct read, commitment), true, 0, 64},
        {"changed", JSON_UINT, offsetof(struct read, changed), true, 0, 0},
        {"sequence", JSON_UINT, offsetof(struct read, sequence), true, 0, 0},
        {"round", JSON_UINT, offsetof(struct read, round), false, 0, UINT32_MAX},
        {"content", JSON_OBJECT, offsetof(struct read, content), false, 0, 0},
    };
    int ret = json_read(object, fields, COUNT(fields), 0, &read, BAD, err);
    if (ret < 0) {
        return ret;
    }
    entry->id = read.id;
    entry->revision = (uint32_t)read.revision;
    entry->state = (enum chain_state)read.state;
    entry->changed = read.changed;
    entry->sequence = read.sequence;
    entry->round = (uint32_t)read.round;
    if (hex_decode(read.reason, entry->reason, 32) < 0 ||
        hex_decode(read.commitment, entry->commitment, 32) < 0) {
        return error_set(err, EINVAL, BAD, "", "the kept list of reservations is damaged");
    }
    return read.content != NULL ? content_from_json(read.content, &entry->content, err) : 0;
}

int ledger_from_json(yyjson_val *object, struct ledger *ret_ledger, struct error *err)
{
    struct read {
        uint64_t chain_id, node, sequence, last_block;
        const char *reservations, *head;
        yyjson_val *revisions;
    } read = {0};
    static const struct json_field fields[] = {
        {"chainId", JSON_UINT, offsetof(struct read, chain_id), true, 0, 0},
        {"reservations", JSON_STRING, offsetof(struct read, reservations), true, 0, 40},
        {"node", JSON_UINT, offsetof(struct read, node), true, 1, 0},
        {"sequence", JSON_UINT, offsetof(struct read, sequence), true, 0, 0},
        {"lastBlock", JSON_UINT, offsetof(struct read, last_block), true, 0, 0},
        {"head", JSON_STRING, offsetof(struct read, head), true, 0, 64},
        {"revisions", JSON_ARRAY, offsetof(struct read, revisions), true, 0,
         LEDGER_RESERVATIONS_MAX},
    };
    struct ledger ledger = {0};

    int ret = json_read(object, fields, COUNT(fields), 0, &read, BAD, err);
    if (ret < 0) {
        return ret;
    }
    ledger.scope.chain_id = read.chain_id;
    ledger.scope.node = read.node;
    ledger.sequence = read.sequence;
    ledger.last_block = read.last_block;
    ledger.revisions = calloc(yyjson_arr_size(read.revisions) + 1, sizeof(*ledger.revisions));
    if (ledger.revisions == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    if (hex_decode(read.reservations, ledger.scope.reservations, 20) < 0 ||
        hex_decode(read.head, ledger.head, 32) < 0) {
        ret = error_set(err, EINVAL, BAD, "", "the kept list of reservations is damaged");
    }
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach(read.revisions, i, max, item)
    {
        if (ret == 0) {
            ret = revision_from_json(item, &ledger.revisions[ledger.count++], err);
        }
    }
    if (ret < 0) {
        ledger_done(&ledger);
        return ret;
    }
    *ret_ledger = ledger;
    return 0;
}
