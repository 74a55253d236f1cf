/*
 * steps_start.c - what a container is started with, what it waits for, and when all are well.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "provision/steps_internal.h"

#define SNAPSHOTS                                                                                  \
    "/run/snapshots/" /* of each volume with a policy, beside its mount: many programs want theirs empty */

static yyjson_mut_val *add_mount(yyjson_mut_doc *doc, yyjson_mut_val *mounts, const char *source,
                                 const char *target, bool read_only)
{
    yyjson_mut_val *mount = yyjson_mut_arr_add_obj(doc, mounts);
    yyjson_mut_obj_add_strcpy(doc, mount, "source", source);
    yyjson_mut_obj_add_strcpy(doc, mount, "target", target);
    yyjson_mut_obj_add_bool(doc, mount, "readOnly", read_only);
    return mount;
}

static void add_mounts(yyjson_mut_doc *doc, yyjson_mut_val *root,
                       const struct deployment *deployment, const struct spec_service *service)
{
    yyjson_mut_val *mounts = yyjson_mut_obj_add_arr(doc, root, "mounts");
    bool shown[SPEC_VOLUMES_MAX] = {false};

    for (size_t i = 0; i < service->mount_count; i++) {
        size_t volume = service->mounts[i].volume;
        char target[sizeof(SNAPSHOTS) + SPEC_NAME_MAX];
        yyjson_mut_val *mount = add_mount(doc, mounts, deployment->volumes[volume],
                                          service->mounts[i].target, service->mounts[i].read_only);
        const char *filesystem = deployment->spec->volumes[volume].filesystem;
        if (filesystem != NULL && strcmp(filesystem, "raw") == 0) {
            yyjson_mut_obj_add_bool(doc, mount, "block", true);
        }
        if (deployment->snapshots[volume] != NULL && !shown[volume]) {
            shown[volume] = true;
            snprintf(target, sizeof(target), SNAPSHOTS "%s",
                     deployment->spec->volumes[volume].name);
            add_mount(doc, mounts, deployment->snapshots[volume], target, true);
        }
    }
}

static void add_files(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct spec_service *service)
{
    yyjson_mut_val *files = yyjson_mut_obj_add_arr(doc, root, "files");
    for (size_t i = 0; i < service->file_count; i++) {
        yyjson_mut_val *file = yyjson_mut_arr_add_obj(doc, files);
        yyjson_mut_obj_add_strcpy(doc, file, "target", service->files[i].target);
        yyjson_mut_obj_add_strcpy(doc, file, "data", service->files[i].data);
        yyjson_mut_obj_add_int(doc, file, "mode", service->files[i].mode);
        yyjson_mut_obj_add_int(doc, file, "uid", service->files[i].uid);
        yyjson_mut_obj_add_int(doc, file, "gid", service->files[i].gid);
    }
}

/* After a restart of provd both revisions of an update walk their plans again: what the candidate has taken over from this one
 * is not started again. 1: taken over, 0: not, -EAGAIN: the candidate is not opened yet. */
static int taken_over(struct deployment *deployment, const struct spec_service *service)
{
    struct deployment *candidate = deployment_successor(deployment);

    if (candidate == NULL) {
        return 0;
    }
    if (candidate->spec == NULL) {
        return -EAGAIN;
    }
    for (size_t i = 0; i < candidate->spec->service_count; i++) {
        if (strcmp(candidate->spec->services[i].name, service->name) == 0 &&
            step_quiesces(candidate, i) &&
            provision_container(candidate->provision, candidate->id, candidate->revision,
                                service->name) != NULL) {
            candidate->services[i].quiesced = true;
            return 1;
        }
    }
    return 0;
}

bool step_leftover(const struct deployment *deployment, uint32_t revision, const char *service,
                   struct error *err)
{
    const struct provision *provision = deployment->provision;

    for (size_t i = 0; i < provision->container_count; i++) {
        const struct container *container = &provision->containers[i];
        if (container->reservation == deployment->id && container->revision != revision &&
            strcmp(container->service, service) == 0 &&
            !reconcile_wants(provision, container->reservation, container->revision)) {
            error_set(err, EAGAIN, "provision.busy", "",
                      "revision %" PRIu32 " of service %s is still being removed",
                      container->revision, service);
            return true;
        }
    }
    return false;
}

yyjson_mut_doc *start_ask(struct deployment *deployment, const struct plan_item *item,
                          struct error *err)
{
    const struct spec_service *service = &deployment->spec->services[item->service];
    const struct deployment_service *made = &deployment->services[item->service];
    yyjson_val *config = yyjson_obj_get(yyjson_doc_get_root(made->image), "config");
    yyjson_mut_val *root;
    int taken = taken_over(deployment, service);

    if (step_leftover(deployment, deployment->revision, service->name, err)) {
        return NULL;
    }
    deployment->services[item->service].left = taken > 0;
    if (taken != 0) {
        if (taken < 0) {
            error_set(err, EAGAIN, "provision.busy", "", "the update under way is opened first");
        }
        return NULL;
    }
    yyjson_mut_doc *doc =
        parameters_instance(deployment->id, deployment->revision, service->name, &root);
    if (doc == NULL) {
        error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
        return NULL;
    }
    yyjson_mut_obj_add_strcpy(doc, root, "rootfs", made->rootfs);
    yyjson_mut_obj_add_val(doc, root, "image", yyjson_val_mut_copy(doc, config));
    yyjson_mut_obj_add_val(doc, root, "spec", yyjson_val_mut_copy(doc, service->object));
    add_mounts(doc, root, deployment, service);
    add_files(doc, root, service);
    yyjson_mut_obj_add_val(doc, root, "hosts",
                           service->hosts != NULL ? yyjson_val_mut_copy(doc, service->hosts)
                                                  : yyjson_mut_obj(doc));
    yyjson_mut_val *dns = yyjson_mut_obj_add_arr(doc, root, "dns");
    for (size_t i = 0; i < service->network_count; i++) {
        const struct deployment_network *network =
            &deployment->networks[service->networks[i].network];
        yyjson_mut_arr_add_strcpy(doc, dns, network->gateway4);
    }
    return doc;
}

/* ---- conditions ---- */

static int container_failed(const struct container *container, struct error *err)
{
    if (strcmp(container->health, "unhealthy") == 0) {
        return error_set(err, ECANCELED, "container.unhealthy",
                         "croft logs shows what the service wrote",
                         "service %s does not pass its health check: %s", container->service,
                         container->message);
    }
    /* "exited" is what a successor stopped, or what ended with 0. */
    if (strcmp(container->state, "failed") != 0) {
        return 0;
    }
    return error_set(err, ECANCELED,
                     container->reason[0] != '\0' ? container->reason : "container.exited",
                     "croft logs shows what the service wrote", "service %s ended: %s",
                     container->service, container->message);
}

static bool container_ready(const struct container *container, enum spec_wait wait)
{
    if (container->done) {
        return true;
    }
    if (wait == SPEC_WAIT_COMPLETED || strcmp(container->state, "running") != 0) {
        return false;
    }
    return wait == SPEC_WAIT_STARTED || strcmp(container->health, "healthy") == 0;
}

/* What was left to a candidate that has ended since is started after all: the way begins anew. */
static bool comes_back(struct deployment *deployment)
{
    for (size_t i = 0; i < deployment->spec->service_count; i++) {
        if (deployment->services[i].left && deployment_successor(deployment) == NULL) {
            deployment->services[i].left = false;
            deployment_rewind(deployment);
            return true;
        }
    }
    return false;
}

int depends_check(struct deployment *deployment, const struct plan_item *item, struct error *err)
{
    if (comes_back(deployment)) {
        return 0;
    }
    const struct spec *spec = deployment->spec;
    const struct spec_service *service = &spec->services[item->service];

    for (size_t i = 0; i < service->depend_count; i++) {
        const struct container *container =
            provision_container(deployment->provision, deployment->id, deployment->revision,
                                spec->services[service->depends[i].service].name);
        if (container == NULL) {
            return 0;
        }
        int ret = container_failed(container, err);
        if (ret < 0) {
            return ret;
        }
        if (!container_ready(container, service->depends[i].wait)) {
            return 0;
        }
    }
    return 1;
}

int healthy_check(struct deployment *deployment, const struct plan_item *item, struct error *err)
{
    const struct spec *spec = deployment->spec;
    bool all = true;

    (void)item;
    if (comes_back(deployment)) {
        return 0;
    }
    for (size_t i = 0; i < spec->service_count; i++) {
        const struct container *container = provision_container(
            deployment->provision, deployment->id, deployment->revision, spec->services[i].name);
        if (container == NULL) {
            all = false;
            continue;
        }
        int ret = container_failed(container, err);
        if (ret < 0) {
            return ret;
        }
        enum spec_wait wait =
            strcmp(container->health, "none") == 0 ? SPEC_WAIT_STARTED : SPEC_WAIT_HEALTHY;
        all = all && container_ready(container, wait);
    }
    return all ? 1 : 0;
}
