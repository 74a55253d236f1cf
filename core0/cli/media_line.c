/*
 * media_line.c - the command line of a farm's boot medium; see media.h.
 *
 * Values are checked for what would make one parameter look like two on the way through a boot loader; whether a value
 * makes sense is the node's to say, strictly and on its console (core0/init/params.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/media.h"

/* Keys that --set takes; the others come from options and settings of their own. */
static const struct {
    const char *name;
    bool repeats;
} keys[] = {
    {"runmode", false},       {"croft.trust", false}, {"croft.chain", false},
    {"croft.relay", false},   {"croft.hub", false},   {"croft.address", false},
    {"croft.net", true},      {"croft.vlan", true},   {"croft.bond", true},
    {"croft.disks", false},   {"croft.ntp", false},   {"croft.log", false},
    {"croft.console", false},
};

static int bad(struct error *err, const char *word, const char *why)
{
    return error_set(err, EINVAL, "media.bad-parameter", "docs/boot-parameters.md lists them",
                     "%.100s %s", word, why);
}

static size_t key_length(const char *word)
{
    return strcspn(word, "=");
}

static bool has_key(const char *word, const char *key)
{
    return key_length(word) == strlen(key) && strncmp(word, key, strlen(key)) == 0;
}

static const char *setting(const struct media_line *line, const char *key)
{
    for (size_t i = 0; i < line->setting_count; i++) {
        if (has_key(line->settings[i], key)) {
            return line->settings[i] + strlen(key) + 1;
        }
    }
    return NULL;
}

static int check_setting(const struct media_line *line, size_t at, struct error *err)
{
    const char *word = line->settings[at];
    bool known = false, repeats = false;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (has_key(word, keys[i].name)) {
            known = true;
            repeats = keys[i].repeats;
        }
    }
    if (!known) {
        return bad(err, word, "is no boot parameter that can be set here");
    }
    if (word[key_length(word)] == '\0' || word[key_length(word) + 1] == '\0') {
        return bad(err, word, "is not of the form KEY=VALUE");
    }
    for (size_t i = 0; !repeats && i < at; i++) {
        if (key_length(line->settings[i]) == key_length(word) &&
            strncmp(line->settings[i], word, key_length(word)) == 0) {
            return bad(err, word, "is given twice");
        }
    }
    /* Spaces part words, quotes are the kernel's, iPXE expands ${…}. */
    for (const char *c = word; *c != '\0'; c++) {
        if (*c <= ' ' || *c >= 0x7f || strchr("\"'\\$", *c) != NULL) {
            return bad(err, word, "holds a character that does not survive a boot loader");
        }
    }
    return 0;
}

static bool plain(const char *urls)
{
    return urls != NULL && (strstr(urls, "http://") != NULL || strstr(urls, "ws://") != NULL);
}

__attribute__((format(printf, 3, 4))) static void add(char *text, size_t *len, const char *fmt, ...)
{
    va_list args;
    size_t at = *len < MEDIA_LINE_MAX + 1 ? *len : MEDIA_LINE_MAX;

    va_start(args, fmt);
    int more = vsnprintf(text + at, MEDIA_LINE_MAX + 1 - at, fmt, args);
    va_end(args);
    *len += more > 0 ? (size_t)more : 0;
}

int media_line_write(const struct media_line *line, char ret_text[MEDIA_LINE_MAX + 1],
                     struct error *err)
{
    const char *runmode = setting(line, "runmode"), *chain = setting(line, "croft.chain");
    size_t len = 0;

    if (strstr(line->base, "farmer_id=") != NULL || strstr(line->base, "croft.") != NULL) {
        return error_set(err, EEXIST, "media.bad-image", "take croft.efi as it was built",
                         "the image carries a farm's parameters already");
    }
    for (size_t i = 0; i < line->setting_count; i++) {
        int ret = check_setting(line, i, err);
        if (ret < 0) {
            return ret;
        }
    }
    if (chain == NULL) {
        chain = line->chain;
    }
    bool dev = runmode != NULL && strcmp(runmode, "dev") == 0;
    if (!dev && (plain(chain) || plain(setting(line, "croft.relay")))) {
        return error_set(err, EPERM, "media.bad-parameter",
                         "--set croft.chain=https://…, or --set runmode=dev for a trial",
                         "nodes take a chain or relay over plain HTTP with runmode=dev only");
    }
    add(ret_text, &len, "%s%sfarmer_id=%" PRIu64 " croft.chainid=%" PRIu64 " croft.registry=%s",
        line->base, line->base[0] != '\0' ? " " : "", line->farm, line->chain_id, line->registry);
    if (setting(line, "croft.chain") == NULL) {
        add(ret_text, &len, " croft.chain=%s", chain);
    }
    for (size_t i = 0; i < line->setting_count; i++) {
        add(ret_text, &len, " %s", line->settings[i]);
    }
    if (line->token != NULL) {
        add(ret_text, &len, " croft.join=%s", line->token);
    }
    return len <= MEDIA_LINE_MAX
               ? 0
               : error_set(err, E2BIG, "media.bad-parameter", "leave something out",
                           "the command line has %zu bytes, a kernel takes %u", len,
                           MEDIA_LINE_MAX);
}
