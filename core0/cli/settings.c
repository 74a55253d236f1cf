/*
 * settings.c - see settings.h.
 */
#include "cli/settings.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"

#define FILE_MAX ((size_t)64 << 10)
#define VALUE_MAX 2048

static int read_file(struct settings *settings, const char *path, bool wanted, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len, number = 1;

    int ret = file_read(path, FILE_MAX, &text, &len);
    if (ret < 0) {
        return wanted || ret != -ENOENT ? error_set(err, -ret, "cli.bad-config", "",
                                                    "%s cannot be read: %s", path, strerror(-ret))
                                        : 0;
    }
    for (size_t at = 0; at < len; number++) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t line_len = newline != NULL ? (size_t)(newline - (text + at)) : len - at;
        char value[VALUE_MAX];
        enum setting setting;
        if (settings_parse_line(text + at, line_len, &setting, value, sizeof(value)) < 0) {
            return error_set(err, EINVAL, "cli.bad-config",
                             "lines are: chain|chainid|registry|key_file = \"value\"",
                             "%s, line %zu cannot be understood", path, number);
        }
        if (setting < SETTING_COUNT) {
            free(settings->values[setting]);
            settings->values[setting] = strdup(value);
        }
        /* settings_done() frees the value; the analyzer loses it at a variable index. */
        at += line_len + 1; // NOLINT(clang-analyzer-unix.Malloc)
    }
    return 0;
}

int settings_read(const struct cli *cli, struct settings *ret_settings, struct error *err)
{
    struct settings settings = {0};
    char path[PATH_MAX] = "";
    const char *given = cli_option(cli, "--config");
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (given != NULL) {
        snprintf(path, sizeof(path), "%s", given);
    } else if (xdg != NULL && xdg[0] != '\0') {
        snprintf(path, sizeof(path), "%s/croft/croft.toml", xdg);
    } else if (home != NULL) {
        snprintf(path, sizeof(path), "%s/.config/croft/croft.toml", home);
    }
    if (path[0] != '\0') {
        int ret = read_file(&settings, path, given != NULL, err);
        if (ret < 0) {
            settings_done(&settings);
            return ret;
        }
    }
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const char *value = cli_option(cli, setting_names[i].option);
        value = value != NULL ? value : getenv(setting_names[i].environment);
        if (value != NULL && value[0] != '\0') {
            free(settings.values[i]);
            settings.values[i] = strdup(value);
        }
    }
    *ret_settings = settings;
    return 0;
}

void settings_done(struct settings *settings)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        free(settings->values[i]);
        settings->values[i] = NULL;
    }
}

const char *settings_need(const struct settings *settings, enum setting setting, struct error *err)
{
    if (settings->values[setting] == NULL) {
        char hint[160];
        snprintf(hint, sizeof(hint), "give %s, set %s, or write %s = \"…\" into croft.toml",
                 setting_names[setting].option, setting_names[setting].environment,
                 setting_names[setting].toml);
        error_set(err, ENOENT, "cli.not-set", hint, "%s is not set", setting_names[setting].toml);
    }
    return settings->values[setting];
}
