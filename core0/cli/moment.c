/*
 * moment.c - see moment.h.
 */
#include "cli/moment.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND 1000000U
#define MOMENT_MAX ((uint64_t)253402300800 * SECOND) /* the year 10000 */

/* Up to `digits` of them; false: none, or more. */
static bool number(const char **at, size_t min, size_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t count = 0;
    while (isdigit((unsigned char)(*at)[count]) && count <= max) {
        value = value * 10 + (uint64_t)((*at)[count] - '0');
        count++;
    }
    *at += count;
    *ret_value = value;
    return count >= min && count <= max;
}

static bool skip(const char **at, const char *any)
{
    if (**at == '\0' || strchr(any, **at) == NULL) {
        return false;
    }
    (*at)++;
    return true;
}

static int duration(const char *at, uint64_t *ret_us)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    uint64_t seconds = 0;
    size_t next = 0; /* from the largest unit to the smallest, each once */

    while (*at != '\0') {
        uint64_t value;
        if (!number(&at, 1, 9, &value)) {
            return -EINVAL;
        }
        while (next < 5 && units[next].unit != *at) {
            next++;
        }
        if (next == 5) {
            return -EINVAL;
        }
        seconds += value * units[next++].seconds;
        at++;
    }
    *ret_us = seconds * SECOND;
    return 0;
}

static int offset(const char **at, int64_t *ret_seconds)
{
    uint64_t hours, minutes;
    *ret_seconds = 0;
    if (skip(at, "Zz")) {
        return 0;
    }
    bool west = **at == '-';
    if (!skip(at, "+-") || !number(at, 2, 2, &hours) || !skip(at, ":") ||
        !number(at, 2, 2, &minutes) || hours > 23 || minutes > 59) {
        return -EINVAL;
    }
    *ret_seconds = (int64_t)(hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return 0;
}

static int date(const char *at, uint64_t *ret_us)
{
    uint64_t year, month, day, hour = 0, minute = 0, second = 0, fraction = 0;
    int64_t east = 0;

    if (!number(&at, 4, 4, &year) || !skip(&at, "-") || !number(&at, 2, 2, &month) ||
        !skip(&at, "-") || !number(&at, 2, 2, &day)) {
        return -EINVAL;
    }
    if (*at != '\0') {
        if (!skip(&at, "Tt ") || !number(&at, 2, 2, &hour) || !skip(&at, ":") ||
            !number(&at, 2, 2, &minute) || !skip(&at, ":") || !number(&at, 2, 2, &second)) {
            return -EINVAL;
        }
        if (skip(&at, ".")) {
            const char *from = at;
            if (!number(&at, 1, 9, &fraction)) {
                return -EINVAL;
            }
            for (size_t digits = (size_t)(at - from); digits != 6;
                 digits += digits < 6 ? 1 : -1UL) {
                fraction = digits < 6 ? fraction * 10 : fraction / 10;
            }
        }
        if (offset(&at, &east) < 0 || *at != '\0') {
            return -EINVAL;
        }
    }
    if (hour > 23 || minute > 59 || second > 60) {
        return -EINVAL;
    }
    struct tm parts = {.tm_year = (int)year - 1900,
                       .tm_mon = (int)month - 1,
                       .tm_mday = (int)day,
                       .tm_hour = (int)hour,
                       .tm_min = (int)minute};
    int64_t seconds = (int64_t)timegm(&parts);
    /* timegm takes the 31st of February for the 3rd of March */
    if (parts.tm_mon != (int)month - 1 || parts.tm_mday != (int)day) {
        return -EINVAL;
    }
    seconds += (int64_t)second - east;
    if (seconds < 0) {
        return -EINVAL;
    }
    *ret_us = (uint64_t)seconds * SECOND + fraction;
    return 0;
}

int moment_parse(const char *text, uint64_t now_us, uint64_t *ret_us)
{
    uint64_t us;
    const char *at = text;

    if (skip(&at, "@")) {
        if (!number(&at, 1, 12, &us) || *at != '\0') {
            return -EINVAL;
        }
        us *= SECOND;
    } else if (strlen(text) >= 10 && text[4] == '-') {
        if (date(text, &us) < 0) {
            return -EINVAL;
        }
    } else {
        if (*text == '\0' || duration(text, &us) < 0) {
            return -EINVAL;
        }
        us = us < now_us ? now_us - us : 0;
    }
    if (us >= MOMENT_MAX) {
        return -EINVAL;
    }
    *ret_us = us;
    return 0;
}

void moment_format(uint64_t us, char ret_text[MOMENT_TEXT])
{
    time_t seconds = (time_t)((us < MOMENT_MAX ? us : MOMENT_MAX - 1) / SECOND);
    struct tm parts;
    char date_text[24];

    gmtime_r(&seconds, &parts);
    strftime(date_text, sizeof(date_text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret_text, MOMENT_TEXT, "%s.%06uZ", date_text, (unsigned)(us % SECOND));
}
