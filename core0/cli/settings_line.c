/*
 * settings_line.c - one line of croft.toml; see settings.h.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "cli/settings.h"

const struct setting_name setting_names[SETTING_COUNT] = {
    [SETTING_CHAIN] = {"chain", "CROFT_CHAIN", "--chain"},
    [SETTING_CHAINID] = {"chainid", "CROFT_CHAINID", "--chainid"},
    [SETTING_REGISTRY] = {"registry", "CROFT_REGISTRY", "--registry"},
    [SETTING_KEY_FILE] = {"key_file", "CROFT_KEY_FILE", "--key-file"},
};

static size_t blanks(const char *line, size_t len, size_t at)
{
    while (at < len && (line[at] == ' ' || line[at] == '\t' || line[at] == '\r')) {
        at++;
    }
    return at;
}

int settings_parse_line(const char *line, size_t len, enum setting *ret_setting, char *ret_value,
                        size_t size)
{
    size_t at = blanks(line, len, 0), start = at, setting = 0;

    *ret_setting = SETTING_COUNT;
    if (at == len || line[at] == '#') {
        return 0;
    }
    while (at < len && (isalnum((unsigned char)line[at]) || line[at] == '_')) {
        at++;
    }
    while (setting < SETTING_COUNT &&
           (strlen(setting_names[setting].toml) != at - start ||
            strncmp(setting_names[setting].toml, line + start, at - start) != 0)) {
        setting++;
    }
    at = blanks(line, len, at);
    if (setting == SETTING_COUNT || at == len || line[at] != '=') {
        return -EINVAL;
    }
    at = blanks(line, len, at + 1);
    bool quoted = at < len && line[at] == '"';
    start = at += quoted;
    while (at < len &&
           (quoted ? line[at] != '"' && line[at] != '\\' : isdigit((unsigned char)line[at]) != 0)) {
        at++;
    }
    size_t end = at;
    if (quoted && (at == len || line[at] != '"')) {
        return -EINVAL;
    }
    at = blanks(line, len, at + quoted);
    if (end == start || end - start >= size || (at < len && line[at] != '#')) {
        return -EINVAL;
    }
    memcpy(ret_value, line + start, end - start);
    ret_value[end - start] = '\0';
    *ret_setting = (enum setting)setting;
    return 0;
}
