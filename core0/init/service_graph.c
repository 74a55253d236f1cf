/*
 * service_graph.c - the dependency graph of services: Before turned into After, missing ones, cycles.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "init/service.h"
#include "init/unit_value.h"

enum graph_mark { GRAPH_NEW, GRAPH_OPEN, GRAPH_CLOSED };

#define GRAPH_MAX 128u /* services; service_load_all reads no more */

struct graph {
    struct core *core;
    enum graph_mark marks[GRAPH_MAX];
    size_t path[GRAPH_MAX];
    size_t depth;
};

static void graph_turn_before(struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++) {
        struct service *service = &core->services[i];

        for (size_t j = 0; j < service->unit.before.count; j++) {
            struct service *later = service_find(core, service->unit.before.items[j]);

            if (later != NULL && !unit_list_has(&later->unit.after, service->unit.name))
                unit_list_add(&later->unit.after, service->unit.name);
        }
    }
}

static void graph_fail(struct service *service, const struct error *err)
{
    if (!service->loadable)
        return;
    service->loadable = false;
    service->state = SERVICE_FAILED;
    service->result = SERVICE_BAD_FILE;
    service->error = *err;
    core_error(service->core, service->unit.name, err);
}

static void graph_check_missing(struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++) {
        struct service *service = &core->services[i];

        for (size_t j = 0; j < service->unit.requires.count && service->loadable; j++) {
            const char *name = service->unit.requires.items[j];
            struct error err = {0};

            if (service_find(core, name) != NULL)
                continue;
            error_set(&err, ENOENT, "service.missing", "add its file, or take it out of Requires=",
                      "%s requires %s, and there is no such service", service->unit.name, name);
            graph_fail(service, &err);
        }
    }
}

/* The cycle is what lies on the path from its first visit on: all of it is named, and none of it starts. */
static void graph_found_cycle(struct graph *graph, size_t again)
{
    struct error err = {0};
    char text[256] = "";
    size_t len = 0;
    size_t first = 0;

    while (graph->path[first] != again)
        first++;
    for (size_t i = first; i < graph->depth && len < sizeof(text); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s after ",
                                graph->core->services[graph->path[i]].unit.name);
    error_set(&err, ELOOP, "service.cycle",
              "take one of them out of After= or Requires=", "services wait for each other: %s%s",
              text, graph->core->services[again].unit.name);
    for (size_t i = first; i < graph->depth; i++)
        graph_fail(&graph->core->services[graph->path[i]], &err);
}

static void graph_visit(struct graph *graph, size_t index)
{
    const struct service *service = &graph->core->services[index];

    graph->marks[index] = GRAPH_OPEN;
    graph->path[graph->depth++] = index;
    for (size_t i = 0; i < service->unit.after.count; i++) {
        const struct service *other = service_find(graph->core, service->unit.after.items[i]);
        size_t next;

        if (other == NULL)
            continue;
        next = (size_t)(other - graph->core->services);
        if (graph->marks[next] == GRAPH_NEW)
            graph_visit(graph, next);
        else if (graph->marks[next] == GRAPH_OPEN)
            graph_found_cycle(graph, next);
    }
    graph->depth--;
    graph->marks[index] = GRAPH_CLOSED;
}

void service_check_graph(struct core *core)
{
    struct graph graph = {.core = core};

    graph_turn_before(core);
    graph_check_missing(core);
    for (size_t i = 0; i < core->service_count && i < GRAPH_MAX; i++) {
        if (graph.marks[i] == GRAPH_NEW)
            graph_visit(&graph, i);
    }
}
