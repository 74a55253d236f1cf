/*
 * steps_open.c - from a proposal on the chain to a specification that may be run.
 *
 * Checked here, in this order: the sealed bytes have the hashes of the proposal; what noded opened has the content hash that the
 * commitment covers; it parses; its resources are those that the contract reserved.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crypto/hash.h"
#include "lib/crypto/keccak.h"
#include "lib/crypto/text.h"
#include "provision/steps_internal.h"

#define SALT_SIZE 32
#define TENANT_HINT "deploy again"

/* ---- fetch ---- */

static int mismatch(struct error *err)
{
    return error_set(err, EBADMSG, "provision.blob-mismatch", "write the blob to the hub again",
                     "the hub's sealed specification is not the one that was proposed");
}

static int check_sealed(const struct deployment *deployment, const uint8_t *data, size_t len,
                        struct error *err)
{
    uint8_t hash[32], blob[32];
    static const uint8_t zero[32];

    keccak256(data, len, hash);
    sha256(data, len, blob);
    if (memcmp(hash, deployment->content.sealed_hash, 32) != 0 ||
        (memcmp(deployment->content.blob, zero, 32) != 0 &&
         memcmp(blob, deployment->content.blob, 32) != 0)) {
        return mismatch(err);
    }
    return 0;
}

/* The timer goes on: never from inside the callback of the client. */
static void on_blob(const struct http_response *response, const struct error *http_err, void *user)
{
    struct deployment *deployment = user;
    struct error err = {0};

    deployment->transfer = NULL;
    deployment->busy = false;
    deployment->hub++;
    loop_timer_in(deployment->timer, 0);
    if (http_err != NULL && strcmp(http_err->code, "http.too-big") == 0) {
        (void)mismatch(&err);
        deployment->blob_altered = true;
        deployment->error = err;
        return;
    }
    if (http_err != NULL) {
        deployment->error = *http_err;
        return;
    }
    if (check_sealed(deployment, response->body, response->body_len, &err) < 0) {
        deployment->blob_altered = true;
        deployment->error = err;
    } else if (store_save_sealed(&deployment->provision->store, deployment->id,
                                 deployment->revision, response->body, response->body_len,
                                 &err) < 0) {
        deployment->error = err;
    }
}

static int fetch_start(struct deployment *deployment, struct error *err)
{
    char digest[65], url[LEDGER_HUB_SIZE_MAX + 80];
    const char *hub = deployment->content.hubs[deployment->hub];
    size_t len = strlen(hub);

    hex_encode(deployment->content.blob, 32, digest);
    snprintf(url, sizeof(url), "%s%sblobs/%s", hub, len > 0 && hub[len - 1] == '/' ? "" : "/",
             digest);
    struct http_request request = {.url = url,
                                   .max_body = STORE_SEALED_MAX,
                                   .timeout_us = (uint64_t)60 * 1000 * 1000,
                                   .done = on_blob,
                                   .user = deployment,
                                   .flags = HTTP_FAIL_ON_STATUS | HTTP_NO_REDIRECT};
    int ret = http_request_start(deployment->provision->http, &request, &deployment->transfer);
    if (ret < 0) {
        deployment->hub++;
        return error_set(err, -ret, "provision.blob-unreachable", TENANT_HINT,
                         "the hub %s cannot be asked", hub);
    }
    deployment->busy = true;
    return 0;
}

int fetch_check(struct deployment *deployment, const struct plan_item *item, struct error *err)
{
    (void)item;
    if (deployment->sealed != NULL) {
        return 1;
    }
    if (store_load_sealed(&deployment->provision->store, deployment->id, deployment->revision,
                          &deployment->sealed, &deployment->sealed_len) == 0) {
        if (check_sealed(deployment, deployment->sealed, deployment->sealed_len, err) == 0) {
            return 1;
        }
        error_clear(err);
        free(deployment->sealed);
        deployment->sealed = NULL;
        store_drop_sealed(&deployment->provision->store, deployment->id, deployment->revision);
    }
    if (deployment->hub < deployment->content.hub_count) {
        return fetch_start(deployment, err);
    }
    /* Every hub was tried. Other bytes are the end, as of an image; who is only away is asked again later. */
    deployment->hub = 0;
    if (deployment->blob_altered) {
        return mismatch(err);
    }
    return error_set(err, ENOENT, "provision.blob-unreachable",
                     "write the blob to one of the hubs again",
                     "no hub gives the sealed specification; last: %s",
                     error_is_set(&deployment->error) ? deployment->error.message : "no hub named");
}

/* ---- open ---- */

yyjson_mut_doc *open_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err)
{
    char tenant[43];
    yyjson_mut_val *root;
    char *sealed = base64_encode(deployment->sealed, deployment->sealed_len);
    yyjson_mut_doc *doc = parameters_new(&root);

    (void)item;
    if (sealed == NULL || doc == NULL) {
        free(sealed);
        yyjson_mut_doc_free(doc);
        error_set(err, ENOMEM, "provision.no-memory", "", "out of memory");
        return NULL;
    }
    hex_encode_0x(deployment->content.tenant, 20, tenant);
    yyjson_mut_obj_add_strcpy(doc, root, "tenant", tenant);
    yyjson_mut_obj_add_uint(doc, root, "keyEpoch", deployment->content.key_epoch);
    yyjson_mut_obj_add_uint(doc, root, "revision", deployment->revision);
    yyjson_mut_obj_add_strcpy(doc, root, "sealed", sealed);
    free(sealed);
    return doc;
}

static int check_opened(struct deployment *deployment, const uint8_t *plain, size_t len,
                        struct error *err)
{
    uint8_t hash[32];
    struct resources reserved;
    struct spec *spec;

    keccak256(plain, len, hash);
    if (len < SALT_SIZE || memcmp(hash, deployment->content.content_hash, 32) != 0) {
        return error_set(err, EBADMSG, "provision.commitment-mismatch", TENANT_HINT,
                         "what was sealed is not what the commitment says");
    }
    int ret = spec_parse((const char *)plain + SALT_SIZE, len - SALT_SIZE, &spec, err);
    if (ret < 0) {
        return ret;
    }
    resources_unpack(deployment->content.resources, &reserved);
    if (!resources_equal(&reserved, &spec->resources)) {
        spec_free(spec);
        return error_set(err, EINVAL, "provision.more-than-reserved", TENANT_HINT,
                         "the specification asks for other resources than the contract reserved");
    }
    spec_free(deployment->spec);
    deployment->spec = spec;
    return deployment_build_plan(deployment, err);
}

int open_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
             struct error *err)
{
    const char *text = yyjson_get_str(yyjson_obj_get(reply, "plaintext"));
    uint8_t *plain = NULL;
    size_t len = 0;

    (void)item;
    if (text == NULL || base64_decode(text, SPEC_TEXT_MAX + SALT_SIZE, &plain, &len) < 0) {
        return error_set(err, EBADMSG, "provision.bad-answer", "", "noded's answer is no base64");
    }
    int ret = check_opened(deployment, plain, len, err);
    crypto_wipe(plain, len);
    free(plain);
    return ret;
}
