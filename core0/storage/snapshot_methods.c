/*
 * snapshot_methods.c - snapshots over varlink; see org.croft.storage.varlink.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "volume_job.h"
#include "volume_parts.h"

struct read_snapshot {
    const char *key, *name;
};

/* The name of a snapshot that is made may be left to us. */
static int read_call(yyjson_val *params, bool wants_name, struct read_snapshot *read,
                     struct error *err)
{
    const struct json_field fields[] = {
        {"key", JSON_STRING, offsetof(struct read_snapshot, key), true, 0, 255},
        {"name", JSON_STRING, offsetof(struct read_snapshot, name), wants_name, 0,
         SNAPSHOT_NAME_MAX},
    };
    return json_read(params, fields, sizeof(fields) / sizeof(fields[0]), 0, read,
                     "storage.bad-request", err);
}

static void answer(struct varlink_call *call, int r, const struct error *err)
{
    if (r < 0)
        varlink_call_fail(call, err);
    else
        varlink_call_reply(call, NULL);
}

static void made(struct storage *storage, const struct volume_job *job, int result)
{
    struct error err = {0};
    if (snapshot_made(storage, job, result, &err) < 0) {
        varlink_call_fail(job->call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "name", job->name);
    varlink_call_reply(job->call, doc);
}

void snapshot_method_make(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct read_snapshot read = {NULL, NULL};
    int r = read_call(params, false, &read, &err);
    if (r >= 0 && read.name != NULL &&
        strncmp(read.name, SNAPSHOT_AUTO, strlen(SNAPSHOT_AUTO)) == 0)
        r = error_set(&err, EINVAL, "storage.bad-snapshot", "choose another name",
                      "names that begin with " SNAPSHOT_AUTO " are the policy's");
    if (r >= 0)
        r = snapshot_make(data, read.key, read.name, made, call, &err);
    if (r < 0)
        varlink_call_fail(call, &err);
}

void snapshot_method_list(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct read_snapshot read = {NULL, NULL};
    struct volume volume;
    struct snapshot *list = NULL;
    size_t count = 0;
    int r = read_call(params, false, &read, &err);
    if (r >= 0)
        r = volume_get(data, read.key, &volume, &err);
    if (r >= 0) {
        r = snapshot_list(&volume, &list, &count);
        r = r < 0 ? volume_fail(&err, read.key, r) : 0;
    }
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_val *snapshots = yyjson_mut_obj_add_arr(doc, root, "snapshots");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, snapshots);
        yyjson_mut_obj_add_strcpy(doc, object, "name", list[i].name);
        yyjson_mut_obj_add_sint(doc, object, "time", list[i].time);
        yyjson_mut_obj_add_bool(doc, object, "automatic", list[i].automatic);
    }
    free(list);
    varlink_call_reply(call, doc);
}

void snapshot_method_remove(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct read_snapshot read = {NULL, NULL};
    int r = read_call(params, true, &read, &err);
    if (r >= 0)
        r = snapshot_remove(data, read.key, read.name, &err);
    answer(call, r, &err);
}

void snapshot_method_restore(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct error err = {0};
    struct read_snapshot read = {NULL, NULL};
    int r = read_call(params, true, &read, &err);
    if (r >= 0)
        r = snapshot_restore(data, read.key, read.name, &err);
    answer(call, r, &err);
}
