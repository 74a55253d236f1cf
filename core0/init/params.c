/*
 * params.c - see params.h. One row of the table per key.
 */
#include "init/params.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init/params_value.h"
#include "init/unit_value.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PARAMS_HINT "the parameters are listed in docs/boot-parameters.md"

static const char *const params_runmodes[] = {"prod", "test", "dev"};

typedef int params_set_fn(struct params *params, const char *value); /* 0 or -errno */
typedef void params_reset_fn(struct params *params);

/* ---- one function per form of value; each returns -EINVAL for what does not parse ---- */

static int params_set_str(char **member, const char *value, bool valid)
{
    char *copy;

    if (!valid)
        return -EINVAL;
    copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    free(*member);
    *member = copy;
    return 0;
}

/* Appends every part of a comma separated list. */
static int params_add_parts(struct unit_list *list, const char *value, const char *schemes)
{
    char part[512];

    for (;;) {
        size_t len = strcspn(value, ",");
        int ret;

        if (len == 0 || len >= sizeof(part))
            return -EINVAL;
        memcpy(part, value, len);
        part[len] = '\0';
        if (schemes != NULL ? !params_is_url(part, schemes) : !params_is_host(part))
            return -EINVAL;
        ret = unit_list_add(list, part);
        if (ret < 0)
            return ret;
        if (value[len] == '\0')
            return 0;
        value += len + 1;
    }
}

static int params_set_farmer(struct params *params, const char *value)
{
    return params_is_number(value, &params->farmer_id) ? 0 : -EINVAL;
}

static int params_set_runmode(struct params *params, const char *value)
{
    for (size_t i = 0; i < COUNT(params_runmodes); i++) {
        if (strcmp(params_runmodes[i], value) == 0) {
            params->runmode = (enum params_runmode)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int params_set_chain(struct params *params, const char *value)
{
    return params_add_parts(&params->chain, value, "http https ws wss");
}

static int params_set_chain_id(struct params *params, const char *value)
{
    return params_is_number(value, &params->chain_id) ? 0 : -EINVAL;
}

static int params_set_registry(struct params *params, const char *value)
{
    return params_set_str(&params->registry, value, params_is_eth_address(value));
}

static int params_set_trust(struct params *params, const char *value)
{
    if (strcmp(value, "rpc") == 0) {
        params->trust = PARAMS_TRUST_RPC;
        return 0;
    }
    if (strncmp(value, "quorum:", 7) == 0) {
        uint64_t quorum;

        if (!params_is_number(value + 7, &quorum) || quorum > 64)
            return -EINVAL;
        params->trust = PARAMS_TRUST_QUORUM;
        params->quorum = quorum;
        return 0;
    }
    if (strncmp(value, "qbft:", 5) == 0 && value[5] != '\0') {
        params->trust = PARAMS_TRUST_QBFT;
        return params_set_str(&params->qbft_file, value + 5, strstr(value, "..") == NULL);
    }
    return -EINVAL;
}

static int params_set_join(struct params *params, const char *value)
{
    if (strncmp(value, "0x", 2) == 0)
        value += 2;
    return params_set_str(&params->join, value,
                          strlen(value) == 64 && strspn(value, "0123456789abcdefABCDEF") == 64);
}

static int params_set_relay(struct params *params, const char *value)
{
    return params_add_parts(&params->relay, value, "http https");
}

static int params_set_address(struct params *params, const char *value)
{
    return params_set_str(&params->address, value, params_is_host(value));
}

static int params_set_hub(struct params *params, const char *value)
{
    return params_add_parts(&params->hub, value, "http https");
}

static int params_set_net(struct params *params, const char *value)
{
    return params_is_net(value) ? unit_list_add(&params->net, value) : -EINVAL;
}

static int params_set_vlan(struct params *params, const char *value)
{
    return params_is_vlan(value) ? unit_list_add(&params->vlan, value) : -EINVAL;
}

static int params_set_bond(struct params *params, const char *value)
{
    return params_is_bond(value) ? unit_list_add(&params->bond, value) : -EINVAL;
}

static int params_set_disks(struct params *params, const char *value)
{
    static const char *const policies[] = {"empty", "wipe", "none"};
    size_t len = strcspn(value, "+");

    for (size_t i = 0; i < COUNT(policies); i++) {
        if (strlen(policies[i]) == len && memcmp(policies[i], value, len) == 0 &&
            (value[len] == '\0' || strcmp(value + len, "+usb") == 0)) {
            params->disks = (enum params_disks)i;
            params->disks_usb = value[len] != '\0';
            return 0;
        }
    }
    return -EINVAL;
}

static int params_set_ntp(struct params *params, const char *value)
{
    return params_add_parts(&params->ntp, value, NULL);
}

static int params_set_log(struct params *params, const char *value)
{
    char host[256];
    const char *colon;
    uint64_t port;
    size_t len;

    if (strncmp(value, "udp:", 4) != 0)
        return -EINVAL;
    value += 4;
    colon = strrchr(value, ':');
    if (colon == NULL || !params_is_number(colon + 1, &port) || port > 65535)
        return -EINVAL;
    len = (size_t)(colon - value);
    if (len >= 2 && value[0] == '[' && value[len - 1] == ']') {
        value++;
        len -= 2;
    }
    if (len >= sizeof(host))
        return -EINVAL;
    memcpy(host, value, len);
    host[len] = '\0';
    params->log_port = port;
    /* An address: PID 1 asks no name server. */
    return params_set_str(&params->log_host, host, params_is_ip(host));
}

static int params_set_console(struct params *params, const char *value)
{
    /* "ttyS0" or, as on the kernel's own console=, "ttyS0,115200n8". */
    return params_set_str(&params->console, value,
                          params_is_interface(value) || strchr(value, ',') != NULL);
}

/* ---- what a later source takes back of an earlier one ---- */

static void params_reset_chain(struct params *params)
{
    unit_list_done(&params->chain);
}
static void params_reset_relay(struct params *params)
{
    unit_list_done(&params->relay);
}
static void params_reset_hub(struct params *params)
{
    unit_list_done(&params->hub);
}
static void params_reset_net(struct params *params)
{
    unit_list_done(&params->net);
}
static void params_reset_vlan(struct params *params)
{
    unit_list_done(&params->vlan);
}
static void params_reset_bond(struct params *params)
{
    unit_list_done(&params->bond);
}
static void params_reset_ntp(struct params *params)
{
    unit_list_done(&params->ntp);
}

static const struct params_key {
    const char *name;
    params_set_fn *set;
    params_reset_fn *reset; /* NULL: setting replaces */
    bool repeatable;
    bool secret; /* the value is never shown */
} params_keys[] = {
    {"farmer_id", params_set_farmer, NULL, false, false},
    {"runmode", params_set_runmode, NULL, false, false},
    {"croft.chain", params_set_chain, params_reset_chain, true, false},
    {"croft.chainid", params_set_chain_id, NULL, false, false},
    {"croft.registry", params_set_registry, NULL, false, false},
    {"croft.trust", params_set_trust, NULL, false, false},
    {"croft.join", params_set_join, NULL, false, true},
    {"croft.relay", params_set_relay, params_reset_relay, true, false},
    {"croft.address", params_set_address, NULL, false, false},
    {"croft.hub", params_set_hub, params_reset_hub, true, false},
    {"croft.net", params_set_net, params_reset_net, true, false},
    {"croft.vlan", params_set_vlan, params_reset_vlan, true, false},
    {"croft.bond", params_set_bond, params_reset_bond, true, false},
    {"croft.disks", params_set_disks, NULL, false, false},
    {"croft.ntp", params_set_ntp, params_reset_ntp, true, false},
    {"croft.log", params_set_log, NULL, false, false},
    {"croft.console", params_set_console, NULL, false, false},
};

static const char *const params_source_names[] = {
    [PARAMS_SOURCE_DEFAULTS] = "chain.conf",
    [PARAMS_SOURCE_FILE] = "boot.conf",
    [PARAMS_SOURCE_LINE] = "the command line",
};

void params_init(struct params *params)
{
    *params = (struct params){
        .runmode = PARAMS_PROD,
        .trust = PARAMS_TRUST_QUORUM,
        .quorum = 2,
    };
}

void params_done(struct params *params)
{
    for (size_t i = 0; i < COUNT(params_keys); i++) {
        if (params_keys[i].reset != NULL)
            params_keys[i].reset(params);
    }
    free(params->registry);
    free(params->qbft_file);
    if (params->join != NULL)
        explicit_bzero(params->join, strlen(params->join));
    free(params->join);
    free(params->address);
    free(params->log_host);
    free(params->console);
    params_init(params);
}

void params_error(struct params *params, const char *code, const char *hint, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (params->error_count < PARAMS_ERRORS_MAX)
        error_set(&params->errors[params->error_count], EINVAL, code, hint, "%s", text);
    params->error_count++;
}

/* ---- reading ---- */

/* A word that may hold anything, for a message: control characters and bytes beyond ASCII are replaced. */
static const char *params_show(const char *word, char *show, size_t size)
{
    size_t i = 0;

    for (; word[i] != '\0' && i + 1 < size; i++)
        show[i] = (char)(word[i] > 0x20 && word[i] < 0x7f ? word[i] : '?');
    show[i] = '\0';
    return show;
}

static const struct params_key *params_find(const char *word, size_t len)
{
    for (size_t i = 0; i < COUNT(params_keys); i++) {
        if (strlen(params_keys[i].name) == len && memcmp(params_keys[i].name, word, len) == 0)
            return &params_keys[i];
    }
    return NULL;
}

static void params_take(struct params *params, const struct params_key *key,
                        enum params_source source, const char *value)
{
    unsigned bit = 1u << (key - params_keys);
    char show[80];

    if ((params->given[source] & bit) != 0 && !key->repeatable) {
        params_error(params, "boot.repeated-parameter", "give it once", "%s stands twice on %s",
                     key->name, params_source_names[source]);
        return;
    }
    if ((params->given[source] & bit) == 0 && key->reset != NULL)
        key->reset(params);
    params->given[source] |= bit;
    if (key->set(params, value) < 0)
        params_error(params, "boot.bad-parameter", PARAMS_HINT, "%s=%s on %s is not valid",
                     key->name,
                     key->secret ? "(not shown)" : params_show(value, show, sizeof(show)),
                     params_source_names[source]);
}

static void params_unknown(struct params *params, const char *word, enum params_source source)
{
    char name[64];
    char show[64];

    /* Only the name: a mistyped croft.jion=… must not show its token either. */
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
    params_error(params, "boot.unknown-parameter", PARAMS_HINT, "%s is not known (%s)",
                 params_show(name, show, sizeof(show)), params_source_names[source]);
}

static void params_take_word(struct params *params, const char *word)
{
    size_t len = strcspn(word, "=");
    const struct params_key *key = params_find(word, len);

    if (key != NULL && word[len] == '=')
        params_take(params, key, PARAMS_SOURCE_LINE, word + len + 1);
    else if (key != NULL)
        params_error(params, "boot.bad-parameter", PARAMS_HINT, "%s has no value", key->name);
    else if (strncmp(word, "croft.", 6) == 0)
        params_unknown(params, word, PARAMS_SOURCE_LINE);
    /* All else is the kernel's; what it does not know either comes by params_read_handed. */
}

void params_read_line(struct params *params, const char *text, size_t len)
{
    char word[PARAMS_LINE_MAX + 1];
    bool quoted = false;
    size_t filled = 0;

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\0'))
        len--;
    if (len > PARAMS_LINE_MAX) {
        params_error(params, "boot.too-long", "put parameters into /etc/croft/boot.conf",
                     "the command line has %zu bytes, at most %u are possible", len,
                     PARAMS_LINE_MAX);
        return;
    }
    /* As the kernel's next_arg() does it: blanks separate outside of double quotes, which are dropped. */
    for (size_t i = 0; i <= len; i++) {
        char byte = (char)(i < len ? text[i] : ' ');
        bool blank = byte == ' ' || byte == '\t' || byte == '\n' || byte == '\0';

        if (byte == '"') {
            quoted = !quoted;
        } else if (!blank || (quoted && i < len)) {
            word[filled++] = byte;
        } else if (filled > 0) {
            word[filled] = '\0';
            filled = 0;
            if (strcmp(word, "--") == 0)
                return; /* the rest is for init: it comes as arguments */
            params_take_word(params, word);
        }
    }
}

void params_read_file(struct params *params, enum params_source source, const char *text,
                      size_t len)
{
    char line[PARAMS_LINE_MAX + 1];

    if (len > PARAMS_FILE_MAX) {
        params_error(params, "boot.too-long", NULL, "%s is larger than %u bytes",
                     params_source_names[source], PARAMS_FILE_MAX);
        return;
    }
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t piece = newline != NULL ? (size_t)(newline - text) - at : len - at;
        const char *begin = text + at;
        const struct params_key *key;
        size_t name;

        at += piece + 1;
        while (piece > 0 && strchr(" \t\r", begin[piece - 1]) != NULL && begin[piece - 1] != '\0')
            piece--;
        while (piece > 0 && (*begin == ' ' || *begin == '\t')) {
            begin++;
            piece--;
        }
        if (piece == 0 || *begin == '#')
            continue;
        if (piece >= sizeof(line) || memchr(begin, '\0', piece) != NULL) {
            params_error(params, "boot.bad-parameter", NULL, "a line of %s is too long or not text",
                         params_source_names[source]);
            continue;
        }
        memcpy(line, begin, piece);
        line[piece] = '\0';
        name = strcspn(line, "=");
        key = params_find(line, name);
        if (key == NULL)
            params_unknown(params, line, source);
        else if (line[name] != '=')
            params_error(params, "boot.bad-parameter", PARAMS_HINT, "%s has no value", key->name);
        else
            params_take(params, key, source, line + name + 1);
    }
}

void params_read_handed(struct params *params, char *const *arguments, char *const *environment)
{
    /* HOME and TERM are the kernel's own; boot loaders add the other two. */
    static const char *const known[] = {"HOME", "TERM", "BOOT_IMAGE", "BOOTIF"};

    for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
        size_t len = strcspn(environment[i], "=");
        bool passed = params_find(environment[i], len) != NULL;

        for (size_t j = 0; j < COUNT(known); j++)
            passed =
                passed || (strlen(known[j]) == len && memcmp(known[j], environment[i], len) == 0);
        if (!passed)
            params_unknown(params, environment[i], PARAMS_SOURCE_LINE);
    }
    for (size_t i = 0; arguments != NULL && arguments[i] != NULL; i++) {
        /* A key of ours without a value was already found on the line. */
        if (params_find(arguments[i], strlen(arguments[i])) == NULL)
            params_unknown(params, arguments[i], PARAMS_SOURCE_LINE);
    }
}

static void params_check_plain(struct params *params, const struct unit_list *urls, const char *key)
{
    for (size_t i = 0; i < urls->count; i++) {
        if (params_is_plain_url(urls->items[i]))
            params_error(params, "boot.plain-http", "use https or wss, or runmode=dev",
                         "%s names %.80s, and plain HTTP is for runmode=dev only", key,
                         urls->items[i]);
    }
}

void params_check(struct params *params)
{
    if (params->runmode != PARAMS_DEV) {
        params_check_plain(params, &params->chain, "croft.chain");
        params_check_plain(params, &params->relay, "croft.relay");
    }
    if (params->farmer_id != 0 &&
        (params->chain.count == 0 || params->chain_id == 0 || params->registry == NULL))
        params_error(params, "boot.no-chain", "give croft.chain, croft.chainid and croft.registry",
                     "farmer_id is given, but neither the image nor a parameter gives %s",
                     params->chain.count == 0 ? "croft.chain"
                     : params->chain_id == 0  ? "croft.chainid"
                                              : "croft.registry");
}

const char *params_runmode_name(const struct params *params)
{
    return params_runmodes[params->runmode];
}

bool params_match(const struct params *params, const char *word)
{
    static const char runmode[] = "runmode=";
    static const char farmer[] = "farmer_id";
    bool negate = *word == '!';
    bool match = false;
    uint64_t number;

    if (negate)
        word++;
    if (strncmp(word, runmode, sizeof(runmode) - 1) == 0)
        match = strcmp(word + sizeof(runmode) - 1, params_runmode_name(params)) == 0;
    else if (strcmp(word, farmer) == 0)
        match = params->farmer_id != 0;
    else if (strncmp(word, "farmer_id=", 10) == 0)
        match = params_is_number(word + 10, &number) && number == params->farmer_id;
    return match != negate;
}
