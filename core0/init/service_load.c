/*
 * service_load.c - the folder of service files: name.service is a service, name@.service a template.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init/cgroup.h"
#include "init/service.h"
#include "lib/file.h"

#define SERVICES_MAX 128u

static const char service_suffix[] = ".service";

static int service_is_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > sizeof(service_suffix) - 1 && entry->d_name[0] != '.' &&
           strcmp(entry->d_name + len - (sizeof(service_suffix) - 1), service_suffix) == 0;
}

static void service_load_file(struct service *service, const char *folder, const char *file)
{
    cleanup_free char *text = NULL;
    char name[256];
    char path[512];
    size_t len = 0;
    int ret;

    snprintf(name, sizeof(name), "%.*s", (int)(strlen(file) - (sizeof(service_suffix) - 1)), file);
    snprintf(path, sizeof(path), "%.250s/%.250s", folder, file);
    ret = file_read(path, UNIT_FILE_MAX, &text, &len);
    if (ret < 0) {
        snprintf(service->unit.name, sizeof(service->unit.name), "%.63s", name);
        ret = error_set(&service->error, -ret, "service.bad-file", NULL, "%s cannot be read: %s",
                        path, strerror(-ret));
    } else {
        ret = unit_parse(name, text, len, &service->unit, &service->error);
    }
    service->loadable = ret == 0;
    if (ret < 0) {
        service->state = SERVICE_FAILED;
        service->result = SERVICE_BAD_FILE;
    }
}

int service_init(struct service *service, struct core *core)
{
    int ret;

    service->core = core;
    service->log_read_fd = -1;
    service->log_write_fd = -1;
    service->listen_fd = -1;
    service->cgroup_events_fd = -1;
    service->since_us = loop_clock();
    ring_init(&service->log, service->loadable ? (size_t)service->unit.log_size : 4096);
    ret = loop_timer_add(core->loop, service_timer_fired, service, &service->timer);
    if (ret == 0)
        ret = loop_timer_add(core->loop, service_watchdog_fired, service, &service->watchdog);
    return ret;
}

static int service_load_entry(struct core *core, const char *folder, const char *file)
{
    size_t len = strlen(file) - (sizeof(service_suffix) - 1);
    struct service *service = &core->services[core->service_count];
    char name[256];
    char path[512];

    if (file[len - 1] == '@') {
        snprintf(name, sizeof(name), "%.*s", (int)len, file);
        snprintf(path, sizeof(path), "%.250s/%.250s", folder, file);
        return template_load(core, name, path);
    }
    service_load_file(service, folder, file);
    core->service_count++;
    return service_init(service, core);
}

int service_load_all(struct core *core, const char *folder, struct error *err)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, service_is_file, alphasort);
    int ret = 0;

    if (count < 0)
        return error_set(err, errno, "service.folder", NULL, "%s: %s", folder, strerror(errno));
    if ((size_t)count > SERVICES_MAX)
        ret =
            error_set(err, E2BIG, "service.too-many", NULL,
                      "%s holds %d services, at most %u are possible", folder, count, SERVICES_MAX);
    else
        core->services = calloc((size_t)count + SERVICE_INSTANCES_MAX, sizeof(struct service));
    if (ret == 0 && core->services == NULL) {
        error_set(err, ENOMEM, "service.no-memory", NULL, "no memory for %d services", count);
        ret = -ENOMEM;
    }

    for (int i = 0; i < count; i++) {
        if (ret == 0 && service_load_entry(core, folder, entries[i]->d_name) < 0)
            ret = error_set(err, ENOMEM, "service.no-memory", NULL, "no memory for %d services",
                            count);
        free(entries[i]);
    }
    free(entries);
    if (ret < 0)
        return ret;
    core->service_room = core->service_count + SERVICE_INSTANCES_MAX;
    for (size_t i = 0; i < core->template_count; i++) {
        if (error_is_set(&core->templates[i].error))
            core_error(core, core->templates[i].name, &core->templates[i].error);
    }
    for (size_t i = 0; i < core->service_count; i++) {
        if (!core->services[i].loadable)
            core_error(core, core->services[i].unit.name, &core->services[i].error);
    }
    service_check_graph(core);
    return 0;
}

void service_done(struct service *service)
{
    service_log_close(service);
    loop_io_del(service->cgroup_io);
    loop_timer_del(service->timer);
    loop_timer_del(service->watchdog);
    if (service->cgroup_events_fd >= 0)
        close(service->cgroup_events_fd);
    if (service->listen_fd >= 0)
        close(service->listen_fd);
    ring_done(&service->log);
    unit_done(&service->unit);
}

void service_free_all(struct core *core)
{
    for (size_t i = 0; i < core->service_count; i++)
        service_done(&core->services[i]);
    templates_free(core);
    free(core->services);
    core->services = NULL;
    core->service_count = 0;
}
