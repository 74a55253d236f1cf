/*
 * boot.c - reading boot.json.
 */
#include "boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/crypto/hash.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"
#include "lib/file.h"
#include "lib/json.h"

#define CODE "node.bad-boot"

/* An optional string or array of strings, joined by commas. */
static int join_strings(yyjson_val *array, char **ret_text)
{
    struct buffer text;
    size_t index, max, len;
    yyjson_val *item;
    buffer_init(&text, 65536);
    int r = 0;
    yyjson_arr_foreach(array, index, max, item)
    {
        if (!yyjson_is_str(item))
            r = -EINVAL;
        if (r >= 0)
            r = buffer_printf(&text, "%s%s", index > 0 ? "," : "", yyjson_get_str(item));
    }
    if (r >= 0 && text.len > 0)
        *ret_text = (char *)buffer_steal(&text, &len);
    buffer_done(&text);
    return r < 0 ? r : 0;
}

static int copy_string(yyjson_val *value, char **ret_text)
{
    if (!yyjson_is_str(value))
        return 0;
    *ret_text = strdup(yyjson_get_str(value));
    /* boot_done() frees it; the analyzer loses it at a variable index of relays[]. */
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc)
    return *ret_text == NULL ? -ENOMEM : 0;
}

static void first_error(yyjson_val *errors, struct error *ret_error)
{
    yyjson_val *first = yyjson_arr_get_first(errors);
    const char *code = yyjson_get_str(yyjson_obj_get(first, "code"));
    const char *message = yyjson_get_str(yyjson_obj_get(first, "message"));
    const char *hint = yyjson_get_str(yyjson_obj_get(first, "hint"));
    if (first != NULL)
        error_set(ret_error, EINVAL, code != NULL ? code : CODE, hint != NULL ? hint : "", "%s",
                  message != NULL ? message : "the boot parameters have an error");
}

static int take(yyjson_val *root, struct boot *boot)
{
    static const char *const modes[] = {"prod", "test", "dev"};
    yyjson_val *relays = yyjson_obj_get(root, "relay");
    const char *boot_id = yyjson_get_str(yyjson_obj_get(root, "bootId"));
    const char *mode = yyjson_get_str(yyjson_obj_get(root, "runmode"));
    const char *registry = yyjson_get_str(yyjson_obj_get(root, "registry"));
    size_t index, max;
    yyjson_val *item;

    if (boot_id == NULL || hex_decode(boot_id, boot->boot_id, 16) < 0 || mode == NULL)
        return -EINVAL;
    boot->run_mode = 3;
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(mode, modes[i]) == 0)
            boot->run_mode = i;
    }
    if (boot->run_mode == 3)
        return -EINVAL;
    boot->farm = yyjson_get_uint(yyjson_obj_get(root, "farmerId"));
    boot->chain_id = yyjson_get_uint(yyjson_obj_get(root, "chainId"));
    if (registry != NULL) {
        if (eth_address_parse(registry, boot->registry) < 0)
            return -EINVAL;
        boot->has_registry = true;
    }
    yyjson_arr_foreach(relays, index, max, item)
    {
        if (boot->relay_count == BOOT_RELAYS_MAX)
            return -E2BIG;
        int r = copy_string(item, &boot->relays[boot->relay_count]);
        if (r < 0 || boot->relays[boot->relay_count] == NULL)
            return -EINVAL;
        boot->relay_count++;
    }
    first_error(yyjson_obj_get(root, "errors"), &boot->failed);
    int r = join_strings(yyjson_obj_get(root, "chain"), &boot->chain);
    if (r >= 0)
        r = copy_string(yyjson_obj_get(root, "address"), &boot->address);
    if (r >= 0)
        r = copy_string(yyjson_obj_get(yyjson_obj_get(root, "trust"), "mode"), &boot->trust);
    return r;
}

int boot_read(const char *path, struct boot *ret_boot, struct error *err)
{
    struct boot boot = {.farm = 0};
    char *text = NULL;
    size_t len;
    int r = file_read(path, 65536, &text, &len);
    if (r < 0)
        return error_set(err, -r, CODE, "", "%s cannot be read: %s", path, strerror(-r));
    yyjson_doc *doc = json_parse(text, len, 65536, CODE, err);
    free(text);
    if (doc == NULL)
        return -EBADMSG;
    r = take(yyjson_doc_get_root(doc), &boot);
    yyjson_doc_free(doc);
    if (r < 0) {
        boot_done(&boot);
        return error_set(err, -r, CODE, "", "%s does not say what it should", path);
    }
    *ret_boot = boot;
    return 0;
}

void boot_done(struct boot *boot)
{
    free(boot->chain);
    free(boot->address);
    free(boot->trust);
    for (size_t i = 0; i < boot->relay_count; i++)
        free(boot->relays[i]);
}

int boot_read_token(const char *path, uint8_t ret_key[32], struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    uint8_t key[32];
    int r = file_read(path, 256, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(err, -r, "join.bad-token", "", "the join token cannot be read: %s",
                         strerror(-r));
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    r = hex_decode(text, key, sizeof(key));
    crypto_wipe(text, len);
    free(text);
    if (r < 0 || !ecdsa_key_valid(key))
        return error_set(err, EINVAL, "join.bad-token", "take it again from `croft farm token`",
                         "the join token is not 64 hexadecimal digits of a valid key");
    memcpy(ret_key, key, sizeof(key));
    crypto_wipe(key, sizeof(key));
    return 1;
}

int boot_read_image_digest(const char *path, uint8_t ret_digest[32], struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    int r = file_read(path, 256, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r >= 0) {
        if (len > 0 && text[len - 1] == '\n')
            text[--len] = '\0';
        r = hex_decode(text, ret_digest, 32);
    }
    free(text);
    return r < 0 ? error_set(err, -r, "node.bad-image", "build the image again",
                             "%s does not hold the image's digest", path)
                 : 1;
}
