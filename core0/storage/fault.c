/*
 * fault.c - see fault.h.
 */
#include "fault.h"

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "lib/file.h"
#include "lib/json.h"

#define BOOT_MAX ((size_t)1 << 20)

static bool enabled;

void fault_start(const char *boot_path)
{
    cleanup_free char *text = NULL;
    size_t len;
    struct error err = {0};
    if (file_read(boot_path, BOOT_MAX, &text, &len) < 0)
        return;
    yyjson_doc *doc = json_parse(text, len, BOOT_MAX, "storage.bad-boot", &err);
    enabled = yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(doc), "runmode"), "dev");
    yyjson_doc_free(doc);
}

void fault_point(const char *name)
{
    char path[PATH_MAX];
    if (!enabled)
        return;
    snprintf(path, sizeof(path), "/run/croft/fault/storaged.%s", name);
    if (unlink(path) == 0)
        (void)raise(SIGKILL);
}
