/*
 * status.c - how a tenant's reservation is, and restarting one of its services.
 *
 * provd says what was made of it, contd how its containers are, storaged how full its volumes. What of it does not go well is
 * said once more in one list, `reasons`: a container that is killed for its memory and comes back is Active on the chain.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"

#define KEY_MAX 256

static yyjson_mut_val *member(struct request *request, const char *name)
{
    return yyjson_mut_obj_get(yyjson_mut_doc_get_root(request->answer), name);
}

static void copy_own(struct request *request, yyjson_val *array, const char *name)
{
    yyjson_mut_doc *doc = request->answer;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), name);
    yyjson_val *item;
    size_t i, max;

    yyjson_arr_foreach(array, i, max, item)
    {
        if (yyjson_get_uint(yyjson_obj_get(item, "reservation")) == request->challenge.reservation)
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, item));
    }
}

/* ---- reasons ---- */

static void add_reason(struct request *request, const char *whose, const char *name,
                       const char *code, const char *message)
{
    yyjson_mut_doc *doc = request->answer;
    yyjson_mut_val *reason = yyjson_mut_arr_add_obj(doc, member(request, "reasons"));

    if (whose != NULL)
        yyjson_mut_obj_add_strcpy(doc, reason, whose, name);
    yyjson_mut_obj_add_strcpy(doc, reason, "code", code);
    yyjson_mut_obj_add_strcpy(doc, reason, "message", message);
}

/* What the items of a list say under "reason" and "message". */
static void add_reasons_of(struct request *request, const char *list, const char *whose)
{
    yyjson_mut_val *item;
    size_t i, max;

    yyjson_mut_arr_foreach(member(request, list), i, max, item)
    {
        const char *code = yyjson_mut_get_str(yyjson_mut_obj_get(item, "reason"));
        const char *message = yyjson_mut_get_str(yyjson_mut_obj_get(item, "message"));
        const char *name = whose != NULL ? yyjson_mut_get_str(yyjson_mut_obj_get(item, whose)) : "";

        if (code != NULL && code[0] != '\0')
            add_reason(request, whose, name != NULL ? name : "", code,
                       message != NULL ? message : "");
    }
}

/* ---- volumes ---- */

/* The name by which the tenant knows a volume of his reservation; NULL: it is none of it. Keys: core0/provision/steps.c. */
static const char *volume_name(struct request *request, const char *key)
{
    yyjson_mut_val *entry;
    char prefix[KEY_MAX];
    size_t i, max;

    yyjson_mut_arr_foreach(member(request, "entries"), i, max, entry)
    {
        const char *tenant = yyjson_mut_get_str(yyjson_mut_obj_get(entry, "tenant"));
        const char *project = yyjson_mut_get_str(yyjson_mut_obj_get(entry, "project"));
        int len = snprintf(prefix, sizeof(prefix), "volume/%s/%s/", tenant != NULL ? tenant : "",
                           project != NULL ? project : "");

        if (project != NULL && project[0] != '\0' && len < (int)sizeof(prefix) &&
            strncmp(key, prefix, (size_t)len) == 0)
            return key + len;
    }
    return NULL;
}

/* The service whose own files, beside its image's, lie there; NULL: another reservation's. */
static const char *scratch_service(const struct request *request, const char *key)
{
    char prefix[64];
    int len = snprintf(prefix, sizeof(prefix), "scratch/%llu/",
                       (unsigned long long)request->challenge.reservation);
    const char *service = strncmp(key, prefix, (size_t)len) == 0 ? strchr(key + len, '/') : NULL;

    return service != NULL ? service + 1 : NULL;
}

/* btrfs refuses a write for which there may be no room when all that waits is written, so a little before the limit. */
static bool is_full(uint64_t used, uint64_t size)
{
    uint64_t rest = size / 64 > (UINT64_C(2) << 20) ? size / 64 : UINT64_C(2) << 20;

    return size > 0 && used + rest >= size;
}

static void add_volume(struct request *request, yyjson_mut_val *list, yyjson_val *volume)
{
    yyjson_mut_doc *doc = request->answer;
    const char *key = yyjson_get_str(yyjson_obj_get(volume, "key"));
    uint64_t used = yyjson_get_uint(yyjson_obj_get(volume, "used"));
    uint64_t size = yyjson_get_uint(yyjson_obj_get(volume, "size"));
    const char *name = key != NULL ? volume_name(request, key) : NULL;
    const char *service = key != NULL && name == NULL ? scratch_service(request, key) : NULL;
    const char *whose = name != NULL ? "volume" : "service";
    char message[128];

    if (name == NULL && service == NULL)
        return;
    yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strcpy(doc, item, whose, name != NULL ? name : service);
    yyjson_mut_obj_add_uint(doc, item, "size", size);
    yyjson_mut_obj_add_uint(doc, item, "used", used);
    /* A virtual disk is as large as it was made; how full it is, only the file system in it knows (of a raw one, only its user). */
    if (yyjson_is_str(yyjson_obj_get(volume, "filesystem"))) {
        used = yyjson_get_uint(yyjson_obj_get(volume, "filesystemUsed"));
        size = yyjson_get_uint(yyjson_obj_get(volume, "filesystemSize"));
    }
    if (!is_full(used, size))
        return;
    snprintf(message, sizeof(message), "%llu of the %llu MiB that it may have are used",
             (unsigned long long)used >> 20, (unsigned long long)size >> 20);
    add_reason(request, whose, name != NULL ? name : service, "storage.volume-full", message);
}

/* ---- the answer ---- */

/* parameters NULL: storaged does not answer, which hides nothing of the rest. */
static void take_volumes(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_doc *doc = request->answer;
    yyjson_val *volume;
    size_t i, max;

    if (parameters != NULL) {
        yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "volumes");

        yyjson_arr_foreach(yyjson_obj_get(parameters, "volumes"), i, max, volume)
        {
            add_volume(request, list, volume);
        }
    }
    request->answer = NULL;
    request_reply(request, doc);
}

static void take_containers(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_doc *doc = request->answer;

    copy_own(request, yyjson_obj_get(parameters, "containers"), "containers");
    (void)yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), "reasons");
    add_reasons_of(request, "entries", NULL);
    add_reasons_of(request, "containers", "service");
    request_call_if_there(request, "storaged", "org.croft.storage.ListVolumes", take_volumes);
}

static void take_entries(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_val *root;

    request->answer = gate_parameters(&root);
    yyjson_mut_obj_add_uint(request->answer, root, "reservation", request->challenge.reservation);
    char *certificate = gate_tls_certificate(request->gate->tls);
    if (certificate != NULL)
        yyjson_mut_obj_add_strcpy(request->answer, root, "certificate", certificate);
    free(certificate);
    copy_own(request, yyjson_obj_get(parameters, "entries"), "entries");
    request_call(request, "contd", "org.croft.container.List", NULL, take_containers);
}

void status_handle(struct request *request)
{
    request_call(request, "provd", "org.croft.provision.List", NULL, take_entries);
}

static void restarted(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_val *root;

    (void)parameters;
    request_reply(request, gate_parameters(&root));
}

void restart_handle(struct request *request)
{
    yyjson_mut_val *root;

    request_call(request, "contd", "org.croft.container.Restart", gate_instance(request, &root),
                 restarted);
}
