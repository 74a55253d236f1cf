/*
 * config.c - reads boot.json; see config.h.
 */
#include "provision/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/json.h"

#define BAD "provision.bad-boot"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int read_mode(const char *text, enum run_mode *ret_mode)
{
    static const char *const words[] = {"prod", "test", "dev"};
    for (size_t i = 0; i < COUNT(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_mode = (enum run_mode)i;
            return 0;
        }
    }
    return -EINVAL;
}

static char *join_urls(yyjson_val *array)
{
    struct buffer urls;
    size_t i, max;
    yyjson_val *item;

    buffer_init(&urls, 4096);
    yyjson_arr_foreach(array, i, max, item)
    {
        if (yyjson_is_str(item) &&
            buffer_printf(&urls, "%s%s", urls.len > 0 ? "," : "", yyjson_get_str(item)) < 0) {
            buffer_done(&urls);
            return NULL;
        }
    }
    return (char *)buffer_steal(&urls, NULL);
}

static int check_trust(const char *mode, enum run_mode run_mode, struct error *err)
{
    if (strcmp(mode, "rpc") != 0) {
        return error_set(
            err, ENOTSUP, "chain.trust-unsupported",
            "boot with croft.trust=rpc and runmode=dev to try workloads",
            "this image cannot check headers by croft.trust=%s yet, so it runs nothing", mode);
    }
    if (run_mode != RUN_MODE_DEV) {
        return error_set(err, EPERM, "chain.trust-refused",
                         "croft.trust=rpc is allowed with runmode=dev only",
                         "croft.trust=rpc believes one server, which this run mode does not allow");
    }
    return 0;
}

struct boot {
    const char *runmode, *registry, *boot_id;
    yyjson_val *chain, *hub, *trust, *errors, *chain_id, *farm;
};

static int fill(const struct boot *boot, struct config *config, struct error *err)
{
    const char *mode = yyjson_get_str(yyjson_obj_get(boot->trust, "mode"));

    if (yyjson_arr_size(boot->errors) > 0) {
        yyjson_val *first = yyjson_arr_get_first(boot->errors);
        const char *message = yyjson_get_str(yyjson_obj_get(first, "message"));
        return error_set(err, EINVAL, "boot.refused", "correct the boot parameters",
                         "the boot parameters are wrong: %s", message != NULL ? message : "?");
    }
    if (read_mode(boot->runmode, &config->run_mode) < 0) {
        return error_set(err, EINVAL, BAD, "", "boot.json holds no run mode");
    }
    if (!yyjson_is_uint(boot->farm)) {
        return error_set(err, ENOENT, "node.no-farm", "boot with farmer_id=N",
                         "this node belongs to no farm and runs nothing");
    }
    config->farm = yyjson_get_uint(boot->farm);
    if (boot->boot_id == NULL || hex_decode(boot->boot_id, config->boot_id, 16) < 0) {
        return error_set(err, EINVAL, BAD, "", "boot.json holds no boot id");
    }
    config->chain_id = yyjson_get_uint(boot->chain_id);
    config->chain = join_urls(boot->chain);
    if (config->chain == NULL || config->chain[0] == '\0' || boot->registry == NULL ||
        hex_decode(boot->registry, config->registry, 20) < 0 || config->chain_id == 0) {
        return error_set(err, ENOENT, "chain.not-named",
                         "boot with croft.chain, croft.chainid and croft.registry",
                         "neither boot parameters nor image name a chain and a registry");
    }
    snprintf(config->trust, sizeof(config->trust), "%s", mode != NULL ? mode : "");
    size_t i, max;
    yyjson_val *hub;
    yyjson_arr_foreach(boot->hub, i, max, hub)
    {
        if (config->hub_count < COUNT(config->hubs) && yyjson_is_str(hub)) {
            config->hubs[config->hub_count] = strdup(yyjson_get_str(hub));
            config->hub_count += config->hubs[config->hub_count] != NULL;
        }
    }
    return check_trust(mode != NULL ? mode : "?", config->run_mode, err);
}

int config_read(const char *path, struct config *ret_config, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len;
    struct config config = {0};
    struct boot boot = {0};

    int ret = file_read(path, (size_t)1 << 20, &text, &len);
    if (ret < 0) {
        return error_set(err, -ret, BAD, "", "%s cannot be read: %s", path, strerror(-ret));
    }
    yyjson_doc *doc = json_parse(text, len, (size_t)1 << 20, BAD, err);
    if (doc == NULL) {
        return -EINVAL;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    boot.runmode = yyjson_get_str(yyjson_obj_get(root, "runmode"));
    boot.boot_id = yyjson_get_str(yyjson_obj_get(root, "bootId"));
    boot.registry = yyjson_get_str(yyjson_obj_get(root, "registry"));
    boot.chain = yyjson_obj_get(root, "chain");
    boot.hub = yyjson_obj_get(root, "hub");
    boot.trust = yyjson_obj_get(root, "trust");
    boot.errors = yyjson_obj_get(root, "errors");
    boot.chain_id = yyjson_obj_get(root, "chainId");
    boot.farm = yyjson_obj_get(root, "farmerId");
    if (boot.runmode == NULL) {
        boot.runmode = "";
    }
    ret = fill(&boot, &config, err);
    yyjson_doc_free(doc);
    if (ret < 0) {
        config_done(&config);
        return ret;
    }
    *ret_config = config;
    return 0;
}

void config_done(struct config *config)
{
    free(config->chain);
    config->chain = NULL;
    for (size_t i = 0; i < config->hub_count; i++) {
        free(config->hubs[i]);
    }
    config->hub_count = 0;
}
