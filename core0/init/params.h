/*
 * params.h - boot parameters, read strictly.
 *
 * Three sources give the same keys, the later one wins key by key: /etc/croft/chain.conf (built into the image),
 * /etc/croft/boot.conf (inside an archive appended to the initramfs), the kernel's command line. Nothing falls back
 * silently: whatever is unknown, repeated or does not parse becomes an entry of `errors`, is shown, and keeps the
 * node from registering.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "init/unit.h"
#include "lib/error.h"

#define PARAMS_LINE_MAX 2047u  /* bytes of the command line; beyond, x86 kernels do not boot */
#define PARAMS_FILE_MAX 65536u /* bytes of boot.conf and chain.conf */
#define PARAMS_ERRORS_MAX 32u

enum params_runmode { PARAMS_PROD, PARAMS_TEST, PARAMS_DEV };
enum params_trust { PARAMS_TRUST_RPC, PARAMS_TRUST_QUORUM, PARAMS_TRUST_QBFT };
enum params_disks { PARAMS_DISKS_EMPTY, PARAMS_DISKS_WIPE, PARAMS_DISKS_NONE };

struct params {
    uint64_t farmer_id; /* 0: none */
    enum params_runmode runmode;
    struct unit_list chain;
    uint64_t chain_id; /* 0: none */
    char *registry;
    enum params_trust trust;
    uint64_t quorum;
    char *qbft_file;
    char *join; /* 64 hex digits; goes to noded only */
    struct unit_list relay;
    char *address;
    struct unit_list hub;
    struct unit_list net; /* as written; checked */
    struct unit_list vlan;
    struct unit_list bond;
    enum params_disks disks;
    bool disks_usb;
    struct unit_list ntp;
    char *log_host;
    uint64_t log_port;
    char *console;

    unsigned given[3]; /* per source: bit per row of the table */
    struct error errors[PARAMS_ERRORS_MAX];
    size_t error_count; /* may exceed PARAMS_ERRORS_MAX: the rest is only counted */
};

enum params_source { PARAMS_SOURCE_DEFAULTS, PARAMS_SOURCE_FILE, PARAMS_SOURCE_LINE };

void params_init(struct params *params);
void params_done(struct params *params);

/* The text of /proc/cmdline. Words that are the kernel's own are passed over. */
void params_read_line(struct params *params, const char *text, size_t len);
/* Lines of key=value, # begins a comment. */
void params_read_file(struct params *params, enum params_source source, const char *text,
                      size_t len);
/* What the kernel handed to init as unknown to it: arguments and environment, both ended by NULL. */
void params_read_handed(struct params *params, char *const *arguments, char *const *environment);
/* Checks what depends on several keys. Call once after all sources. */
void params_check(struct params *params);
/* Records an error of another part of the boot. */
__attribute__((format(printf, 4, 5))) void params_error(struct params *params, const char *code,
                                                        const char *hint, const char *fmt, ...);
/* True when "word" or "key=value" is what was parsed ("runmode=dev", "farmer_id=3"). For conditions of services. */
bool params_match(const struct params *params, const char *word);
const char *params_runmode_name(const struct params *params);

/* The document of /run/croft/boot.json (docs/contracts.md). The join token is not in it. */
yyjson_mut_doc *params_to_json(const struct params *params, const char *version,
                               const char *boot_id, int64_t build_time);
