/*
 * fault.c - see fault.h.
 */
#include "lib/fault.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yyjson.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/notify.h"

#define BOOT_MAX ((size_t)1 << 20)
#define ORDER_MAX 64u

static const char *name; /* NULL: points do nothing */

void fault_start(const char *program, const char *boot_path)
{
    cleanup_free char *text = NULL;
    size_t len;
    struct error err = {.code = ""};
    if (file_read(boot_path, BOOT_MAX, &text, &len) < 0)
        return;
    yyjson_doc *doc = json_parse(text, len, BOOT_MAX, "boot.bad-file", &err);
    if (yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(doc), "runmode"), "dev"))
        name = program;
    yyjson_doc_free(doc);
}

void fault_point(const char *fmt, ...)
{
    char point[128], path[PATH_MAX];
    cleanup_free char *order = NULL;
    size_t len = 0;
    va_list args;
    if (name == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(point, sizeof(point), fmt, args);
    va_end(args);
    snprintf(path, sizeof(path), "/run/croft/fault/%s.%s", name, point);
    bool hold = file_read(path, ORDER_MAX, &order, &len) == 0 && strncmp(order, "hold", 4) == 0;
    if (unlink(path) < 0)
        return;
    if (hold)
        notify_event("fault", "\"point\":\"%s\"", point);
    (void)raise(hold ? SIGSTOP : SIGKILL);
}

size_t fault_limit(const char *what, size_t limit)
{
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len = 0;
    if (name == NULL)
        return limit;
    snprintf(path, sizeof(path), "/run/croft/fault/%s.%s", name, what);
    if (file_read(path, ORDER_MAX, &text, &len) < 0)
        return limit;
    unsigned long least = strtoul(text, NULL, 10);
    return least < limit ? least : limit;
}
