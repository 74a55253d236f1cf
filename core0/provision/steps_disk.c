/*
 * steps_disk.c - virtual disks: made like named volumes, attached once their service may run.
 *
 * A disk is held by "<reservation>/<service>", whatever the revision: an update's service takes the disk over from its
 * predecessor, which was stopped for it, without closing it. Another service or reservation is refused (storage.in-use).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "provision/steps_internal.h"

static const struct spec_volume *mounted_disk(const struct deployment *deployment,
                                              const struct plan_item *item, size_t *ret_volume)
{
    const struct spec_service *service = &deployment->spec->services[item->service];

    *ret_volume = service->mounts[item->item].volume;
    return &deployment->spec->volumes[*ret_volume];
}

static void add_secret(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct spec_volume *volume)
{
    if (volume->key != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "secret", volume->key);
    }
}

yyjson_mut_doc *disk_parameters(struct deployment *deployment, const struct plan_item *item,
                                struct error *err)
{
    const struct spec_volume *volume = &deployment->spec->volumes[item->service];
    yyjson_mut_doc *doc = volume_new(deployment, volume, err);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);

    if (doc != NULL) {
        yyjson_mut_obj_add_strcpy(doc, root, "filesystem", volume->filesystem);
        add_secret(doc, root, volume);
    }
    /* A disk never shrinks: the farmer may have made larger what runs. */
    if (doc != NULL && deployment->chain_state >= CHAIN_ACTIVE) {
        yyjson_mut_obj_add_bool(doc, root, "atLeast", true);
    }
    return doc;
}

yyjson_mut_doc *disk_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err)
{
    yyjson_mut_doc *doc = disk_parameters(deployment, item, err);

    if (doc != NULL) {
        step_grow_late(deployment, doc);
    }
    return doc;
}

yyjson_mut_doc *plug_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err)
{
    const struct spec_service *service = &deployment->spec->services[item->service];
    char key[STORE_KEY_MAX + 1], holder[SPEC_NAME_MAX + 32];
    yyjson_mut_val *root;
    size_t index;
    const struct spec_volume *volume = mounted_disk(deployment, item, &index);
    yyjson_mut_doc *doc = parameters_new(&root);

    if (doc == NULL) {
        error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
        return NULL;
    }
    volume_key(deployment, volume, key);
    snprintf(holder, sizeof(holder), "%" PRIu64 "/%s", deployment->id, service->name);
    yyjson_mut_obj_add_strcpy(doc, root, "key", key);
    yyjson_mut_obj_add_strcpy(doc, root, "holder", holder);
    add_secret(doc, root, volume);
    return doc;
}

int plug_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
             struct error *err)
{
    size_t index;

    (void)mounted_disk(deployment, item, &index);
    return reply_text(reply, "path", &deployment->volumes[index], err);
}

bool disk_is_held(const struct provision *provision, const char *key, const char *holder)
{
    uint64_t reservation;
    int at = 0;

    if (sscanf(holder, "%" SCNu64 "/%n", &reservation, &at) != 1 || at == 0) {
        return false;
    }
    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (d->id != reservation || d->phase >= PHASE_FAILING) {
            continue;
        }
        if (d->spec == NULL) {
            return true; /* what it mounts is not known yet */
        }
        for (size_t s = 0; s < d->spec->service_count; s++) {
            const struct spec_service *service = &d->spec->services[s];
            for (size_t m = 0; m < service->mount_count; m++) {
                char own[STORE_KEY_MAX + 1];
                volume_key(d, &d->spec->volumes[service->mounts[m].volume], own);
                if (strcmp(own, key) == 0 && strcmp(service->name, holder + at) == 0) {
                    return true;
                }
            }
        }
    }
    return false;
}
