/*
 * unit_value.c - see unit_value.h.
 */
#include "init/unit_value.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- lists ---- */

int unit_list_add(struct unit_list *list, const char *word)
{
    char **items;
    char *copy;

    if (list->count >= UNIT_LIST_MAX)
        return -E2BIG;
    items = realloc(list->items, (list->count + 2) * sizeof(char *));
    if (items == NULL)
        return -ENOMEM;
    list->items = items;
    list->items[list->count] = NULL;
    copy = strdup(word);
    if (copy == NULL)
        return -ENOMEM;
    list->items[list->count++] = copy;
    list->items[list->count] = NULL;
    return 0;
}

void unit_list_done(struct unit_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct unit_list){0};
}

bool unit_list_has(const struct unit_list *list, const char *word)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], word) == 0)
            return true;
    }
    return false;
}

static bool unit_is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Takes one word off the text into `word` (as large as the text). NULL: a quote is not closed. */
static const char *unit_take_word(const char *text, char *word)
{
    char quote = '\0';

    for (; *text != '\0' && (quote != '\0' || !unit_is_blank(*text)); text++) {
        if (quote == '\0' && (*text == '"' || *text == '\'')) {
            quote = *text;
        } else if (*text == quote) {
            quote = '\0';
        } else if (*text == '\\' && quote != '\'') {
            if (*++text == '\0')
                return NULL;
            *word++ = *text;
        } else {
            *word++ = *text;
        }
    }
    *word = '\0';
    return quote == '\0' ? text : NULL;
}

int unit_value_words(const char *text, struct unit_list *list)
{
    char *word;
    int ret = 0;

    if (*text == '\0') {
        unit_list_done(list);
        return 0;
    }
    word = malloc(strlen(text) + 1);
    if (word == NULL)
        return -ENOMEM;
    while (ret == 0) {
        while (unit_is_blank(*text))
            text++;
        if (*text == '\0')
            break;
        text = unit_take_word(text, word);
        ret = text == NULL ? -EINVAL : unit_list_add(list, word);
    }
    free(word);
    return ret;
}

/* ---- numbers ---- */

int unit_value_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};

    for (size_t i = 0; i < COUNT(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret_value = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -EINVAL;
}

/* Digits at *text; moves behind them. */
static int unit_take_uint(const char **text, unsigned base, uint64_t *ret_value)
{
    const char *at = *text;
    uint64_t value = 0;

    for (; *at >= '0' && (unsigned)(*at - '0') < base; at++) {
        if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return -EINVAL;
    }
    if (at == *text)
        return -EINVAL;
    *text = at;
    *ret_value = value;
    return 0;
}

int unit_value_uint(const char *text, unsigned base, uint64_t *ret_value)
{
    uint64_t value;

    if (unit_take_uint(&text, base, &value) < 0 || *text != '\0')
        return -EINVAL;
    *ret_value = value;
    return 0;
}

struct unit_suffix {
    const char *name;
    uint64_t factor;
};

/* The longest suffix comes first where one is the beginning of another. */
static const struct unit_suffix unit_times[] = {
    {"ms", 1000},      {"us", 1},          {"min", 60000000},    {"m", 60000000},
    {"sec", 1000000},  {"s", 1000000},     {"hour", 3600000000}, {"hr", 3600000000},
    {"h", 3600000000}, {"d", 86400000000},
};
static const struct unit_suffix unit_sizes[] = {
    {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {"B", 1},
};

static const struct unit_suffix *unit_take_suffix(const char **text,
                                                  const struct unit_suffix *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(table[i].name);

        if (strncmp(*text, table[i].name, len) == 0) {
            *text += len;
            return &table[i];
        }
    }
    return NULL;
}

int unit_value_time(const char *text, uint64_t *ret_us)
{
    uint64_t total = 0;

    if (strcmp(text, "infinity") == 0) {
        *ret_us = UNIT_INFINITY;
        return 0;
    }
    do {
        const struct unit_suffix *suffix;
        uint64_t value;

        if (unit_take_uint(&text, 10, &value) < 0)
            return -EINVAL;
        while (unit_is_blank(*text))
            text++;
        suffix = unit_take_suffix(&text, unit_times, COUNT(unit_times));
        if (__builtin_mul_overflow(value, suffix != NULL ? suffix->factor : 1000000, &value) ||
            __builtin_add_overflow(total, value, &total))
            return -EINVAL;
        while (unit_is_blank(*text))
            text++;
    } while (*text != '\0');
    if (total > 366ull * 86400 * 1000000)
        return -EINVAL; /* beyond a year it is a mistake */
    *ret_us = total;
    return 0;
}

int unit_value_size(const char *text, uint64_t *ret_bytes)
{
    const struct unit_suffix *suffix;
    uint64_t value;

    if (strcmp(text, "infinity") == 0) {
        *ret_bytes = UNIT_INFINITY;
        return 0;
    }
    if (unit_take_uint(&text, 10, &value) < 0)
        return -EINVAL;
    suffix = unit_take_suffix(&text, unit_sizes, COUNT(unit_sizes));
    if (*text != '\0' ||
        __builtin_mul_overflow(value, suffix != NULL ? suffix->factor : 1, &value) ||
        value >= UNIT_INFINITY)
        return -EINVAL;
    *ret_bytes = value;
    return 0;
}

/* ---- names of the kernel ---- */

struct unit_number {
    const char *name;
    int value;
};

static const struct unit_number unit_signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"ABRT", SIGABRT},
    {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},   {"PIPE", SIGPIPE},
    {"ALRM", SIGALRM}, {"TERM", SIGTERM}, {"WINCH", SIGWINCH},
};
static const struct unit_number unit_errnos[] = {
    {"EPERM", EPERM},   {"EACCES", EACCES},   {"ENOSYS", ENOSYS},
    {"EINVAL", EINVAL}, {"EUCLEAN", EUCLEAN},
};

static int unit_find_number(const struct unit_number *table, size_t count, const char *name,
                            int max, int *ret_value)
{
    uint64_t number;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0) {
            *ret_value = table[i].value;
            return 0;
        }
    }
    if (unit_value_uint(name, 10, &number) < 0 || number == 0 || number > (uint64_t)max)
        return -EINVAL;
    *ret_value = (int)number;
    return 0;
}

int unit_value_signal(const char *text, int *ret_signal)
{
    return unit_find_number(unit_signals, COUNT(unit_signals),
                            strncmp(text, "SIG", 3) == 0 ? text + 3 : text, 64, ret_signal);
}

int unit_value_errno(const char *text, int *ret_errno)
{
    return unit_find_number(unit_errnos, COUNT(unit_errnos), text, 4095, ret_errno);
}

/* capabilities(7), by number (include/uapi/linux/capability.h). */
static const char *const unit_caps[] = {
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
};

static int unit_find_cap(const char *word, uint64_t *ret_bit)
{
    if (strncasecmp(word, "CAP_", 4) != 0)
        return -EINVAL;
    for (size_t i = 0; i < COUNT(unit_caps); i++) {
        if (strcasecmp(unit_caps[i], word + 4) == 0) {
            *ret_bit = 1ull << i;
            return 0;
        }
    }
    return -EINVAL;
}

int unit_value_caps(const char *text, uint64_t *ret_caps)
{
    bool invert = *text == '~';
    struct unit_list words = {0};
    uint64_t caps = 0;
    int ret;

    ret = unit_value_words(invert ? text + 1 : text, &words);
    for (size_t i = 0; i < words.count && ret == 0; i++) {
        uint64_t bit = 0;

        ret = unit_find_cap(words.items[i], &bit);
        caps |= bit;
    }
    unit_list_done(&words);
    if (ret == 0)
        *ret_caps = invert ? ~caps : caps;
    return ret;
}

int unit_value_expand(const char *text, const char *name, char *ret_text, size_t size)
{
    const char *at = strchr(name, '@');
    size_t filled = 0;

    for (; *text != '\0'; text++) {
        const char *piece = text;
        size_t len = 1;

        if (*text == '%') {
            text++;
            if (*text == 'i') {
                piece = at + 1;
                len = strlen(piece);
            } else if (*text == 'n' || *text == 'p') {
                piece = name;
                len = *text == 'n' ? strlen(name) : (size_t)(at - name);
            } else if (*text != '%') {
                return -EINVAL;
            }
        }
        if (len >= size - filled)
            return -E2BIG;
        memcpy(ret_text + filled, piece, len);
        filled += len;
    }
    ret_text[filled] = '\0';
    return 0;
}
