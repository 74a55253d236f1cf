/*
 * steps.c - the table of steps and the short ones; see steps.h.
 */
#include "provision/steps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/text.h"
#include "lib/fault.h"
#include "provision/steps_internal.h"

#define SECOND ((uint64_t)1000 * 1000)

int reply_text(yyjson_val *reply, const char *member, char **ret_text, struct error *err)
{
    const char *text = yyjson_get_str(yyjson_obj_get(reply, member));
    char *copy = text != NULL ? strdup(text) : NULL;

    if (copy == NULL) {
        return error_set(err, EBADMSG, "provision.bad-answer", "", "an answer lacks %s", member);
    }
    free(*ret_text);
    *ret_text = copy;
    return 0;
}

static const struct spec_service *service_of(const struct deployment *deployment,
                                             const struct plan_item *item)
{
    return &deployment->spec->services[item->service];
}

static yyjson_mut_doc *no_memory(struct error *err)
{
    error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    return NULL;
}

/* ---- images ---- */

static yyjson_mut_doc *pull_ask(struct deployment *deployment, const struct plan_item *item,
                                struct error *err)
{
    const struct spec_image *image = &deployment->spec->images[item->service];
    const struct config *config = &deployment->provision->config;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_new(&root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_strcpy(doc, root, "id", image->id);
    yyjson_mut_val *hubs = yyjson_mut_obj_add_arr(doc, root, "hubs");
    for (size_t i = 0; i < config->hub_count; i++) {
        yyjson_mut_arr_add_strcpy(doc, hubs, config->hubs[i]);
    }
    for (size_t i = 0; i < image->hub_count; i++) {
        yyjson_mut_arr_add_strcpy(doc, hubs, image->hubs[i]);
    }
    return doc;
}

static yyjson_mut_doc *mount_ask(struct deployment *deployment, const struct plan_item *item,
                                 struct error *err)
{
    const struct spec_service *service = service_of(deployment, item);
    yyjson_mut_val *root;
    yyjson_mut_doc *doc =
        parameters_instance(deployment->id, deployment->revision, service->name, &root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_strcpy(doc, root, "id", deployment->spec->images[service->image].id);
    yyjson_mut_obj_add_strcpy(doc, root, "scratch", deployment->services[item->service].scratch);
    yyjson_mut_obj_add_uint(doc, root, "uidBase", deployment->uid_base);
    yyjson_mut_obj_add_uint(doc, root, "uidCount", STORE_UID_COUNT);
    return doc;
}

static int mount_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
                     struct error *err)
{
    struct deployment_service *service = &deployment->services[item->service];
    yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);

    /* A copy that outlives the message: the image's configuration goes to contd as it came. */
    yyjson_doc_free(service->image);
    service->image = NULL;
    if (copy != NULL) {
        yyjson_mut_doc_set_root(copy, yyjson_val_mut_copy(copy, reply));
        service->image = yyjson_mut_doc_imut_copy(copy, NULL);
        yyjson_mut_doc_free(copy);
    }
    if (service->image == NULL) {
        return error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
    }
    return reply_text(reply, "rootfs", &service->rootfs, err);
}

/* ---- results ---- */

static yyjson_mut_doc *submit_ask(struct deployment *deployment, enum chain_state state,
                                  const char *reason, struct error *err)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_instance(deployment->id, deployment->revision, NULL, &root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_uint(doc, root, "state", state);
    yyjson_mut_obj_add_strcpy(doc, root, "reason", reason);
    if (deployment->round > 0) {
        yyjson_mut_obj_add_uint(doc, root, "round", deployment->round);
    }
    return doc;
}

static yyjson_mut_doc *deploying_ask(struct deployment *deployment, const struct plan_item *item,
                                     struct error *err)
{
    (void)item;
    return deployment->chain_state >= CHAIN_DEPLOYING
               ? NULL
               : submit_ask(deployment, CHAIN_DEPLOYING, "", err);
}

static int deploying_got(struct deployment *deployment, const struct plan_item *item,
                         yyjson_val *reply, struct error *err)
{
    (void)item;
    (void)reply;
    (void)err;
    deployment->deploying_reported = true;
    return 0;
}

static yyjson_mut_doc *active_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    (void)item;
    return deployment->chain_state >= CHAIN_ACTIVE ? NULL
                                                   : submit_ask(deployment, CHAIN_ACTIVE, "", err);
}

static yyjson_mut_doc *failed_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    (void)item;
    return submit_ask(deployment, CHAIN_FAILED, deployment->error.code, err);
}

/* ---- networks ---- */

static yyjson_mut_doc *network_ask(struct deployment *deployment, const struct plan_item *item,
                                   struct error *err)
{
    const struct spec_network *network = &deployment->spec->networks[item->service];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_instance(deployment->id, 0, NULL, &root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_strcpy(doc, root, "network", network->name);
    yyjson_mut_obj_add_bool(doc, root, "internal", network->internal);
    return doc;
}

static int network_got(struct deployment *deployment, const struct plan_item *item,
                       yyjson_val *reply, struct error *err)
{
    struct deployment_network *network = &deployment->networks[item->service];
    yyjson_val *object = yyjson_obj_get(reply, "network");
    const char *gateway4 = yyjson_get_str(yyjson_obj_get(object, "gateway4"));
    const char *gateway6 = yyjson_get_str(yyjson_obj_get(object, "gateway6"));

    if (gateway4 == NULL || gateway6 == NULL) {
        return error_set(err, EBADMSG, "provision.bad-answer", "", "an answer lacks a gateway");
    }
    snprintf(network->gateway4, sizeof(network->gateway4), "%s", gateway4);
    snprintf(network->gateway6, sizeof(network->gateway6), "%s", gateway6);
    return 0;
}

static yyjson_mut_doc *attach_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    const struct spec_service *service = service_of(deployment, item);
    const struct spec_network *network =
        &deployment->spec->networks[service->networks[item->item].network];
    yyjson_mut_val *root;
    yyjson_mut_doc *doc =
        parameters_instance(deployment->id, deployment->revision, service->name, &root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_strcpy(doc, root, "network", network->name);
    yyjson_mut_obj_add_strcpy(doc, root, "netns", deployment->services[item->service].netns);
    return doc;
}

static int attach_got(struct deployment *deployment, const struct plan_item *item,
                      yyjson_val *reply, struct error *err)
{
    struct deployment_service *service = &deployment->services[item->service];
    yyjson_val *attachment = yyjson_obj_get(reply, "attachment");
    const char *address = yyjson_get_str(yyjson_obj_get(attachment, "address4"));

    if (address == NULL) {
        return error_set(err, EBADMSG, "provision.bad-answer", "", "an answer lacks an address");
    }
    if (item->item == 0) {
        snprintf(service->address, sizeof(service->address), "%s", address);
    }
    return 0;
}

/* Every port and name of the reservation at once. While a revision starts it may be asked for by name, but is not published;
 * a candidate leaves the names of the running revision alone until it takes over. */
static yyjson_mut_doc *expose(struct deployment *deployment, bool publish, struct error *err)
{
    const struct spec *spec = deployment->spec;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_instance(deployment->id, 0, NULL, &root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_val *ports = yyjson_mut_obj_add_arr(doc, root, "ports");
    yyjson_mut_val *names = yyjson_mut_obj_add_arr(doc, root, "names");
    for (size_t s = 0; s < spec->service_count; s++) {
        const struct spec_service *service = &spec->services[s];
        for (size_t p = 0; publish && p < service->port_count; p++) {
            yyjson_mut_val *port = yyjson_mut_arr_add_obj(doc, ports);
            yyjson_mut_obj_add_strcpy(doc, port, "protocol", service->ports[p].protocol);
            yyjson_mut_obj_add_uint(doc, port, "published", service->ports[p].published);
            yyjson_mut_obj_add_uint(doc, port, "target", service->ports[p].target);
            yyjson_mut_obj_add_uint(doc, port, "revision", deployment->revision);
            yyjson_mut_obj_add_strcpy(doc, port, "service", service->name);
        }
        for (size_t n = 0; n < service->network_count; n++) {
            const struct spec_attachment *attachment = &service->networks[n];
            for (size_t a = 0; a <= attachment->alias_count; a++) {
                yyjson_mut_val *name = yyjson_mut_arr_add_obj(doc, names);
                yyjson_mut_obj_add_strcpy(doc, name, "network",
                                          spec->networks[attachment->network].name);
                yyjson_mut_obj_add_strcpy(doc, name, "name",
                                          a == 0 ? service->name : attachment->aliases[a - 1]);
                yyjson_mut_obj_add_uint(doc, name, "revision", deployment->revision);
                yyjson_mut_obj_add_strcpy(doc, name, "service", service->name);
            }
        }
    }
    space_add_ports(deployment, publish, doc, ports);
    return doc;
}

/* A successor that has taken the ports keeps them. */
static bool ports_taken(const struct deployment *deployment)
{
    const struct deployment *successor = deployment_successor(deployment);
    return successor != NULL && successor->exposed;
}

/* True with provision.busy: another revision's set is on its way. Each has its own connection, and netd takes up in either order
 * what came by two: the set of a revision that ends must not come last. */
static bool others_expose(const struct deployment *deployment, struct error *err)
{
    for (const struct deployment *d = deployment->provision->deployments; d != NULL; d = d->next) {
        if (d == deployment || d->id != deployment->id || !d->busy || d->cursor >= d->plan_count) {
            continue;
        }
        const struct step *step = d->plan[d->cursor].step;
        if (step == &steps[STEP_NAMES] || step == &steps[STEP_EXPOSE]) {
            error_set(err, EAGAIN, "provision.busy", "",
                      "the ports of revision %" PRIu32 " are being set", d->revision);
            return true;
        }
    }
    return false;
}

static yyjson_mut_doc *names_ask(struct deployment *deployment, const struct plan_item *item,
                                 struct error *err)
{
    (void)item;
    if (deployment->candidate || others_expose(deployment, err) || ports_taken(deployment)) {
        return NULL;
    }
    /* Active already: this is a restart of provd or of the node, and taking the ports away would cut connections. */
    return expose(deployment, deployment->chain_state >= CHAIN_ACTIVE, err);
}

static yyjson_mut_doc *expose_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    (void)item;
    if (others_expose(deployment, err) || ports_taken(deployment)) {
        return NULL;
    }
    return expose(deployment, true, err);
}

static int expose_got(struct deployment *deployment, const struct plan_item *item,
                      yyjson_val *reply, struct error *err)
{
    (void)item;
    (void)reply;
    (void)err;
    deployment->exposed = true;
    return 0;
}

/* ---- volumes ---- */

static yyjson_mut_doc *volume_parameters(const char *key, const char *kind, uint64_t size,
                                         struct error *err)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = parameters_new(&root);

    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_strcpy(doc, root, "key", key);
    yyjson_mut_obj_add_strcpy(doc, root, "kind", kind);
    yyjson_mut_obj_add_uint(doc, root, "size", size);
    return doc;
}

void volume_key(const struct deployment *deployment, const struct spec_volume *volume,
                char ret_key[STORE_KEY_MAX + 1])
{
    char tenant[43];

    hex_encode_0x(deployment->content.tenant, 20, tenant);
    snprintf(ret_key, STORE_KEY_MAX + 1, "volume/%s/%s/%s", tenant, deployment->spec->project,
             volume->name);
}

yyjson_mut_doc *volume_new(struct deployment *deployment, const struct spec_volume *volume,
                           struct error *err)
{
    char key[STORE_KEY_MAX + 1];

    volume_key(deployment, volume, key);
    if (store_put_volume(&deployment->provision->store, key, deployment->id,
                         deployment->spec->keep_ms, err) < 0) {
        return NULL;
    }
    return volume_parameters(key, volume->kind, volume->size, err);
}

/* What the specification wants of a named volume. at_least: nothing is made smaller, no policy of snapshots is changed. */
static yyjson_mut_doc *named_parameters(struct deployment *deployment, size_t index, bool at_least,
                                        struct error *err)
{
    const struct spec_volume *volume = &deployment->spec->volumes[index];
    yyjson_mut_doc *doc = volume_new(deployment, volume, err);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    if (doc != NULL && volume->snapshot_every != 0) {
        yyjson_mut_obj_add_uint(doc, root, "snapshotEvery", volume->snapshot_every);
        yyjson_mut_obj_add_uint(doc, root, "snapshotKeep", volume->snapshot_keep);
    }
    if (doc != NULL && at_least) {
        yyjson_mut_obj_add_bool(doc, root, "atLeast", true);
        step_grow_late(deployment, doc);
    }
    return doc;
}

void step_grow_late(struct deployment *deployment, yyjson_mut_doc *doc)
{
    if (deployment->candidate && deployment->chain_state < CHAIN_ACTIVE) {
        deployment->grows_late = true;
        yyjson_mut_obj_add_bool(doc, yyjson_mut_doc_get_root(doc), "later", true);
    }
}

/* What was left as it was while it could still fail. */
static bool settles(const struct deployment *deployment)
{
    return deployment->chain_state < CHAIN_ACTIVE && deployment->grows_late;
}

static yyjson_mut_doc *settle_disk_ask(struct deployment *deployment, const struct plan_item *item,
                                       struct error *err)
{
    return settles(deployment) ? disk_parameters(deployment, item, err) : NULL;
}

static yyjson_mut_doc *settle_space_ask(struct deployment *deployment, const struct plan_item *item,
                                        struct error *err)
{
    return settles(deployment) ? space_parameters(deployment, item, err) : NULL;
}

/* The revision before this one may still run on it, and goes on if this one fails. */
static yyjson_mut_doc *volume_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    return named_parameters(deployment, item->service, true, err);
}

/* It takes over: the volume gets exactly what it asks for, or it fails. */
static yyjson_mut_doc *settle_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    return deployment->chain_state >= CHAIN_ACTIVE
               ? NULL
               : named_parameters(deployment, item->service, false, err);
}

static int volume_got(struct deployment *deployment, const struct plan_item *item,
                      yyjson_val *reply, struct error *err)
{
    if (deployment->spec->volumes[item->service].snapshot_every != 0) {
        int ret = reply_text(reply, "snapshots", &deployment->snapshots[item->service], err);
        if (ret < 0) {
            return ret;
        }
    }
    return reply_text(reply, "path", &deployment->volumes[item->service], err);
}

static yyjson_mut_doc *scratch_ask(struct deployment *deployment, const struct plan_item *item,
                                   struct error *err)
{
    const struct spec_service *service = service_of(deployment, item);
    char key[STORE_KEY_MAX + 1];

    snprintf(key, sizeof(key), "scratch/%" PRIu64 "/%" PRIu32 "/%s", deployment->id,
             deployment->revision, service->name);
    return volume_parameters(key, spec_scratch_kind(deployment->spec), service->scratch, err);
}

static int scratch_got(struct deployment *deployment, const struct plan_item *item,
                       yyjson_val *reply, struct error *err)
{
    return reply_text(reply, "path", &deployment->services[item->service].scratch, err);
}

/* ---- containers ---- */

static yyjson_mut_doc *prepare_ask(struct deployment *deployment, const struct plan_item *item,
                                   struct error *err)
{
    yyjson_mut_val *root;

    if (store_take_uids(&deployment->provision->store, deployment->id, step_uid_ranges(),
                        &deployment->uid_base, err) < 0) {
        return NULL;
    }
    yyjson_mut_doc *doc = parameters_instance(deployment->id, deployment->revision,
                                              service_of(deployment, item)->name, &root);
    if (doc == NULL) {
        return no_memory(err);
    }
    yyjson_mut_obj_add_uint(doc, root, "uidBase", deployment->uid_base);
    yyjson_mut_obj_add_uint(doc, root, "uidCount", STORE_UID_COUNT);
    return doc;
}

static int prepare_got(struct deployment *deployment, const struct plan_item *item,
                       yyjson_val *reply, struct error *err)
{
    return reply_text(reply, "netns", &deployment->services[item->service].netns, err);
}

/* A virtual disk is its holder's alone, also one that is only read. */
static bool writes_volume(const struct spec *spec, const struct spec_service *service)
{
    for (size_t i = 0; i < service->mount_count; i++) {
        if (!service->mounts[i].read_only ||
            spec->volumes[service->mounts[i].volume].filesystem != NULL) {
            return true;
        }
    }
    return false;
}

bool step_quiesces(const struct deployment *candidate, size_t service)
{
    return candidate->spec->replace ||
           writes_volume(candidate->spec, &candidate->spec->services[service]);
}

/* Two revisions must not write one volume at once; with update: replace nothing of the old one runs on. */
static yyjson_mut_doc *quiesce_ask(struct deployment *deployment, const struct plan_item *item,
                                   struct error *err)
{
    const struct spec_service *service = service_of(deployment, item);
    yyjson_mut_val *root;

    if (!deployment->candidate || !step_quiesces(deployment, item->service) ||
        provision_container(deployment->provision, deployment->id, deployment->other,
                            service->name) == NULL) {
        return NULL;
    }
    deployment->services[item->service].quiesced = true;
    yyjson_mut_doc *doc =
        parameters_instance(deployment->id, deployment->other, service->name, &root);
    return doc != NULL ? doc : no_memory(err);
}

static yyjson_mut_doc *resume_ask(struct deployment *deployment, const struct plan_item *item,
                                  struct error *err)
{
    yyjson_mut_val *root;
    const char *name = service_of(deployment, item)->name;
    const struct container *elder =
        provision_container(deployment->provision, deployment->id, deployment->other, name);
    if (step_leftover(deployment, deployment->other, name, err)) {
        return NULL;
    }
    /* Never started since the node did: its own deployment does it, as the candidate does not hold it back any more. */
    if (elder != NULL && strcmp(elder->state, "prepared") == 0) {
        return NULL;
    }
    yyjson_mut_doc *doc = parameters_instance(deployment->id, deployment->other, name, &root);
    return doc != NULL ? doc : no_memory(err);
}

/* ---- the table ---- */

#define STEP_ASK(name, maker, method, timeout, flags, ask, got)                                    \
    {                                                                                              \
        name, maker, method, timeout, flags, ask, got, NULL                                        \
    }
#define STEP_CHECK(name, check)                                                                    \
    {                                                                                              \
        name, MAKER_COUNT, NULL, 0, 0, NULL, NULL, check                                           \
    }

const struct step steps[STEP_COUNT] = {
    [STEP_FETCH] = STEP_CHECK("fetch", fetch_check),
    [STEP_OPEN] =
        STEP_ASK("open", MAKER_NODE, "org.croft.node.Open", 30 * SECOND, 0, open_ask, open_got),
    [STEP_PULL] =
        STEP_ASK("pull", MAKER_IMAGE, "org.croft.image.Pull", 0, VARLINK_MORE, pull_ask, NULL),
    [STEP_DEPLOYING] = STEP_ASK("deploying", MAKER_NODE, "org.croft.node.Submit", 30 * SECOND, 0,
                                deploying_ask, deploying_got),
    [STEP_NETWORK] = STEP_ASK("network", MAKER_NET, "org.croft.net.EnsureNetwork", 30 * SECOND, 0,
                              network_ask, network_got),
    [STEP_VOLUME] = STEP_ASK("volume", MAKER_STORAGE, "org.croft.storage.EnsureVolume", 60 * SECOND,
                             0, volume_ask, volume_got),
    [STEP_DISK] = STEP_ASK("disk", MAKER_STORAGE, "org.croft.storage.EnsureVirtualDisk",
                           600 * SECOND, 0, disk_ask, NULL),
    [STEP_SPACE] = STEP_ASK("space", MAKER_STORAGE, "org.croft.storage.EnsureSpace", 180 * SECOND,
                            0, space_ask, space_got),
    [STEP_SCRATCH] = STEP_ASK("scratch", MAKER_STORAGE, "org.croft.storage.EnsureVolume",
                              60 * SECOND, 0, scratch_ask, scratch_got),
    [STEP_PREPARE] = STEP_ASK("prepare", MAKER_CONTAINER, "org.croft.container.Prepare",
                              30 * SECOND, 0, prepare_ask, prepare_got),
    [STEP_ATTACH] = STEP_ASK("attach", MAKER_NET, "org.croft.net.Attach", 30 * SECOND, 0,
                             attach_ask, attach_got),
    [STEP_MOUNT] = STEP_ASK("mount", MAKER_IMAGE, "org.croft.image.Mount", 60 * SECOND, 0,
                            mount_ask, mount_got),
    [STEP_NAMES] =
        STEP_ASK("names", MAKER_NET, "org.croft.net.Expose", 30 * SECOND, 0, names_ask, NULL),
    [STEP_DEPENDS] = STEP_CHECK("depends", depends_check),
    [STEP_QUIESCE] =
        STEP_ASK("quiesce", MAKER_CONTAINER, "org.croft.container.Stop", 0, 0, quiesce_ask, NULL),
    [STEP_PLUG] = STEP_ASK("plug", MAKER_STORAGE, "org.croft.storage.AttachVirtualDisk",
                           300 * SECOND, 0, plug_ask, plug_got),
    [STEP_START] = STEP_ASK("start", MAKER_CONTAINER, "org.croft.container.Start", 60 * SECOND, 0,
                            start_ask, NULL),
    [STEP_HEALTHY] = STEP_CHECK("healthy", healthy_check),
    [STEP_EXPOSE] = STEP_ASK("expose", MAKER_NET, "org.croft.net.Expose", 30 * SECOND, 0,
                             expose_ask, expose_got),
    [STEP_SETTLE] = STEP_ASK("settle", MAKER_STORAGE, "org.croft.storage.EnsureVolume", 60 * SECOND,
                             0, settle_ask, NULL),
    [STEP_SETTLE_DISK] =
        STEP_ASK("settle-disk", MAKER_STORAGE, "org.croft.storage.EnsureVirtualDisk", 600 * SECOND,
                 0, settle_disk_ask, NULL),
    [STEP_SETTLE_SPACE] = STEP_ASK("settle-space", MAKER_STORAGE, "org.croft.storage.EnsureSpace",
                                   180 * SECOND, 0, settle_space_ask, NULL),
    [STEP_ACTIVE] =
        STEP_ASK("active", MAKER_NODE, "org.croft.node.Submit", 30 * SECOND, 0, active_ask, NULL),
    [STEP_RESUME] = STEP_ASK("resume", MAKER_CONTAINER, "org.croft.container.Restart", 60 * SECOND,
                             0, resume_ask, NULL),
    [STEP_FAILED] =
        STEP_ASK("failed", MAKER_NODE, "org.croft.node.Submit", 30 * SECOND, 0, failed_ask, NULL),
};

bool step_error_passes(const char *code)
{
    static const char *const passing[] = {
        "varlink.lost",
        "varlink.timeout",
        "image.unreachable",
        "image.busy",
        "http.unreachable",
        "http.timeout",
        "node.not-registered",
        "node.busy",
        "chain.unreachable",
        "provision.blob-unreachable",
        "storage.busy",
        "storage.in-use",
        "net.busy",
        "container.busy",
        "provision.busy",
        "provision.bad-state",
    };
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        if (strcmp(passing[i], code) == 0) {
            return true;
        }
    }
    return false;
}

uint32_t step_uid_ranges(void)
{
    return (uint32_t)fault_limit("uid-ranges", STORE_SLOTS_MAX);
}
