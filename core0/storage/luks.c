/*
 * luks.c - see luks.h.
 */
#include "luks.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/process.h"

#define CRYPTSETUP "/usr/bin/cryptsetup"
#define TIMEOUT_US ((uint64_t)120 * 1000000)
#define STATUS_NO_PERMISSION 2 /* cryptsetup(8), RETURN CODES: no key slot opens with this key */

static int run(const char *const *argv, const uint8_t *key, struct error *err)
{
    const struct process_options options = {
        .in = key, .in_len = key != NULL ? LUKS_KEY_SIZE : 0, .timeout_us = TIMEOUT_US};
    return process_check(argv, &options, "storage.failed", err);
}

int luks_format(const char *device, const uint8_t key[LUKS_KEY_SIZE], struct error *err)
{
    const char *const argv[] = {CRYPTSETUP,
                                "luksFormat",
                                "--batch-mode",
                                "--type=luks2",
                                "--cipher=aes-xts-plain64",
                                "--key-size=512",
                                "--sector-size=4096",
                                "--pbkdf=pbkdf2",
                                "--hash=sha256",
                                "--pbkdf-force-iterations=1000",
                                "--luks2-metadata-size=16k",
                                "--luks2-keyslots-size=256k",
                                "--offset=2048",
                                "--key-file=-",
                                "--keyfile-size=32",
                                device,
                                NULL};
    _Static_assert(LUKS_HEADER_SIZE == UINT64_C(2048) * 512 && LUKS_KEY_SIZE == 32,
                   "as in the arguments");
    return run(argv, key, err);
}

int luks_open(const char *device, const char *name, const uint8_t key[LUKS_KEY_SIZE],
              struct error *err)
{
    const char *const argv[] = {CRYPTSETUP,
                                "open",
                                "--type=luks2",
                                "--allow-discards",
                                "--perf-no_read_workqueue",
                                "--perf-no_write_workqueue",
                                "--key-file=-",
                                "--keyfile-size=32",
                                device,
                                name,
                                NULL};
    const struct process_options options = {
        .in = key, .in_len = LUKS_KEY_SIZE, .timeout_us = TIMEOUT_US};
    struct process_result result;
    int r = process_run(argv, &options, &result);
    if (r < 0)
        return error_set(err, -r, "storage.failed", "see the log of storaged",
                         CRYPTSETUP " could not be run: %s", strerror(-r));
    if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == STATUS_NO_PERMISSION)
        r = error_set(err, EACCES, "storage.wrong-key", "give the key that the disk was made with",
                      "the key does not open the virtual disk");
    else if (!WIFEXITED(result.status) || WEXITSTATUS(result.status) != 0)
        r = error_set(err, EIO, "storage.failed", "see the log of storaged",
                      CRYPTSETUP " ended with status %d: %.200s", result.status, result.err);
    process_result_done(&result);
    return r;
}

int luks_resize(const char *name, struct error *err)
{
    const char *const argv[] = {CRYPTSETUP, "resize", name, NULL};
    return run(argv, NULL, err);
}
