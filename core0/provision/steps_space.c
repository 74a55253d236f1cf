/*
 * steps_space.c - namespaces of the key-value server: made like named volumes, reached by a port of the node.
 */
#include <errno.h>
#include <string.h>

#include "lib/kv_name.h"
#include "provision/steps_internal.h"

/* Where a namespace without a published port is found by the reservation's own containers: 0-db's port. */
#define INSIDE_PORT 9900

yyjson_mut_doc *space_parameters(struct deployment *deployment, const struct plan_item *item,
                                 struct error *err)
{
    const struct spec_kv *space = &deployment->spec->kv[item->service];
    char key[KV_KEY_SIZE];
    yyjson_mut_val *root;

    kv_key(deployment->content.tenant, deployment->spec->project, space->name, key);
    if (store_put_volume(&deployment->provision->store, key, deployment->id,
                         deployment->spec->keep_ms, err) < 0) {
        return NULL;
    }
    yyjson_mut_doc *doc = parameters_new(&root);
    if (doc == NULL) {
        error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
        return NULL;
    }
    yyjson_mut_obj_add_strcpy(doc, root, "key", key);
    yyjson_mut_obj_add_strcpy(doc, root, "kind", space->kind);
    yyjson_mut_obj_add_uint(doc, root, "size", space->size);
    yyjson_mut_obj_add_strcpy(doc, root, "mode", space->mode);
    yyjson_mut_obj_add_strcpy(doc, root, "password", space->password);
    yyjson_mut_obj_add_bool(doc, root, "public", space->is_public);
    yyjson_mut_obj_add_bool(doc, root, "tlsRequired", space->tls != NULL);
    /* It never shrinks: an update that ended after it took over may have made larger what runs. */
    if (deployment->chain_state >= CHAIN_ACTIVE) {
        yyjson_mut_obj_add_bool(doc, root, "atLeast", true);
    }
    return doc;
}

yyjson_mut_doc *space_ask(struct deployment *deployment, const struct plan_item *item,
                          struct error *err)
{
    yyjson_mut_doc *doc = space_parameters(deployment, item, err);

    if (doc != NULL) {
        step_grow_late(deployment, doc);
    }
    return doc;
}

int space_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
              struct error *err)
{
    uint64_t port = yyjson_get_uint(yyjson_obj_get(reply, "port"));

    if (port == 0 || port > UINT16_MAX) {
        return error_set(err, EBADMSG, "provision.bad-answer", "", "an answer lacks a port");
    }
    deployment->kv_ports[item->service] = (uint16_t)port;
    return 0;
}

void space_add_ports(const struct deployment *deployment, bool publish, yyjson_mut_doc *doc,
                     yyjson_mut_val *ports)
{
    const struct spec *spec = deployment->spec;

    for (size_t i = 0; i < spec->kv_count; i++) {
        const struct spec_kv *space = &spec->kv[i];
        yyjson_mut_val *port = yyjson_mut_arr_add_obj(doc, ports);
        yyjson_mut_obj_add_str(doc, port, "protocol", "tcp");
        yyjson_mut_obj_add_uint(doc, port, "published",
                                space->published != 0 ? space->published : INSIDE_PORT);
        yyjson_mut_obj_add_uint(doc, port, "target", deployment->kv_ports[i]);
        yyjson_mut_obj_add_uint(doc, port, "revision", deployment->revision);
        yyjson_mut_obj_add_strcpy(doc, port, "service", space->name);
        yyjson_mut_obj_add_bool(doc, port, "local", true);
        yyjson_mut_obj_add_bool(doc, port, "inside", !publish || space->published == 0);
    }
}
