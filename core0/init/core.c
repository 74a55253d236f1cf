/*
 * core.c - what happened in core0, told to log, console, events and status.
 */
#include "init/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "init/console.h"
#include "init/control.h"
#include "init/events.h"
#include "init/forward.h"
#include "init/service.h"

uint64_t core_realtime(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

const char *core_path(const struct core *core, char *buf, size_t size, const char *path)
{
    snprintf(buf, size, "%s%s", core->root, path);
    return buf;
}

void core_log(struct core *core, int level, const char *fmt, ...)
{
    char text[RING_LINE_MAX];
    va_list args;
    size_t len;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    len = strlen(text);
    ring_add(&core->log, core_realtime(), (uint8_t)level, text, len);
    control_log_added(core, "core0", &core->log);
    forward_line(core, "core0", level, text, len);
    if (level <= 5)
        console_line(core, "core0", text, len);
}

void core_error(struct core *core, const char *service, const struct error *err)
{
    char text[sizeof(core->last_error.text)];

    snprintf(text, sizeof(text), "%s (%s)", err->message, err->code);
    core->last_error.time_us = core_realtime();
    snprintf(core->last_error.text, sizeof(core->last_error.text), "%s", text);
    snprintf(core->last_error.service, sizeof(core->last_error.service), "%s",
             service != NULL ? service : "core0");
    events_send_text(core, service != NULL ? service : "core0", "error", "text", text);
    core_log(core, 3, "%s%s%s", text, err->hint[0] != '\0' ? " - " : "", err->hint);
    console_changed(core);
}

const char *core_fact_get(const struct core *core, const char *key)
{
    for (size_t i = 0; i < core->fact_count; i++) {
        if (strcmp(core->facts[i].key, key) == 0)
            return core->facts[i].value;
    }
    return NULL;
}

static void core_fact_remove(struct core *core, size_t index)
{
    core->fact_count--;
    memmove(&core->facts[index], &core->facts[index + 1],
            (core->fact_count - index) * sizeof(core->facts[0]));
}

void core_fact_set(struct core *core, const char *key, const char *value)
{
    struct core_fact *fact = NULL;
    char text[sizeof(fact->key) + sizeof(fact->value) + 4];

    for (size_t i = 0; i < core->fact_count; i++) {
        if (strcmp(core->facts[i].key, key) != 0)
            continue;
        if (strcmp(core->facts[i].value, value) == 0)
            return;
        if (value[0] == '\0') {
            core_fact_remove(core, i);
            console_changed(core);
            return;
        }
        fact = &core->facts[i];
    }
    if (fact == NULL) {
        if (value[0] == '\0' || core->fact_count == CORE_FACTS_MAX)
            return;
        fact = &core->facts[core->fact_count++];
        snprintf(fact->key, sizeof(fact->key), "%s", key);
    }
    snprintf(fact->value, sizeof(fact->value), "%s", value);
    snprintf(text, sizeof(text), "%s: %s", fact->key, fact->value);
    events_send_text(core, "core0", "fact", fact->key, fact->value);
    console_line(core, NULL, text, strlen(text));
    console_changed(core);
}
