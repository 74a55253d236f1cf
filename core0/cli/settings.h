/*
 * settings.h - which chain, registry and key: croft.toml, then environment, then options (interfaces.md).
 *
 * croft.toml holds lines `name = "value"` or `name = number` for chain, chainid, registry, key_file and comments; it is a
 * subset of TOML, and anything else in it is refused with its line.
 */
#pragma once

#include "cli/verbs.h"

enum setting { SETTING_CHAIN, SETTING_CHAINID, SETTING_REGISTRY, SETTING_KEY_FILE, SETTING_COUNT };

struct setting_name {
    const char *toml, *environment, *option;
};
extern const struct setting_name setting_names[SETTING_COUNT];

struct settings {
    char *values[SETTING_COUNT]; /* NULL: not set anywhere */
};

int settings_read(const struct cli *cli, struct settings *ret_settings, struct error *err);
void settings_done(struct settings *settings);
/* The value, or NULL with cli.not-set and how to set it. */
const char *settings_need(const struct settings *settings, enum setting setting, struct error *err);
/* One line of the file; a function of its own for the fuzz target. 0 with *ret_setting = SETTING_COUNT: nothing on the line. */
int settings_parse_line(const char *line, size_t len, enum setting *ret_setting, char *ret_value,
                        size_t size);
