/*
 * service_instance.c - templates (kvd@.service) and the services made of them when somebody starts one by its name.
 *
 * A template is text and never a service itself. The first StartService("kvd@x") reads it as the file of kvd@x; from then on
 * that is a service like any other, until the machine ends. Only such a start makes one: no caller can fill the table by asking.
 *
 * Invariant: core->services never moves while the machine runs (timers and the log's pipe point into it), so the room for
 * instances is taken when the folder is read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init/service.h"
#include "lib/file.h"

/* What stands for an instance when a template is read only to see whether it is good. */
#define SAMPLE "sample"

int template_load(struct core *core, const char *name, const char *path)
{
    struct service_template *grown =
        reallocarray(core->templates, core->template_count + 1, sizeof(*grown));
    struct service_template *template;
    char sample[UNIT_NAME_MAX + 1];
    struct unit unit;
    int ret;

    if (grown == NULL)
        return -ENOMEM;
    core->templates = grown;
    template = &grown[core->template_count++];
    *template = (struct service_template){.text = NULL};
    snprintf(template->name, sizeof(template->name), "%.63s", name);
    ret = file_read(path, UNIT_FILE_MAX, &template->text, &template->len);
    if (ret < 0) {
        error_set(&template->error, -ret, "service.bad-file", NULL, "%s cannot be read: %s", path,
                  strerror(-ret));
        return 0;
    }
    snprintf(sample, sizeof(sample), "%.50s" SAMPLE, name);
    if (unit_parse(sample, template->text, template->len, &unit, &template->error) == 0) {
        /* Nobody can come after what does not exist yet: Before= would say something that is not kept. */
        if (unit.before.count > 0)
            error_set(&template->error, EINVAL, "service.bad-file", "say After= in the other file",
                      "%s: a template cannot say Before=", name);
    }
    unit_done(&unit);
    return 0;
}

void templates_free(struct core *core)
{
    for (size_t i = 0; i < core->template_count; i++)
        free(core->templates[i].text);
    free(core->templates);
    core->templates = NULL;
    core->template_count = 0;
}

/* "kvd@" of "kvd@x"; NULL: there is none. */
static const struct service_template *template_find(const struct core *core, const char *name)
{
    const char *instance = unit_instance(name);

    for (size_t i = 0; instance != NULL && i < core->template_count; i++) {
        const struct service_template *template = &core->templates[i];

        if (strlen(template->name) == (size_t)(instance - name) &&
            strncmp(template->name, name, (size_t)(instance - name)) == 0)
            return template;
    }
    return NULL;
}

static int check_requires(const struct service *service, struct error *err)
{
    for (size_t i = 0; i < service->unit.requires.count; i++) {
        const char *name = service->unit.requires.items[i];

        if (service_find(service->core, name) == NULL)
            return error_set(
                err, ENOENT, "core.bad-service", "add its file, or take it out of Requires=",
                "%s requires %s, and there is no such service", service->unit.name, name);
    }
    return 0;
}

int service_instantiate(struct core *core, const char *name, struct service **ret_service,
                        struct error *err)
{
    const struct service_template *template = template_find(core, name);
    struct service *service = service_find(core, name);
    struct error parse = {0};
    int ret;

    if (service != NULL) {
        *ret_service = service;
        return 0;
    }
    if (template == NULL || !unit_instance_is_valid(unit_instance(name)))
        return error_set(err, ENOENT, "core.no-service", "ListServices names all",
                         "there is no service of this name");
    if (error_is_set(&template->error))
        return error_set(err, EINVAL, "core.bad-service", template->error.hint, "%s",
                         template->error.message);
    if (core->service_count == core->service_room)
        return error_set(err, ENOSPC, "core.too-many-services", "restart the node",
                         "%u services were made of templates since the boot, no more are possible",
                         SERVICE_INSTANCES_MAX);
    service = &core->services[core->service_count];
    *service = (struct service){.core = core};
    ret = unit_parse(name, template->text, template->len, &service->unit, &parse);
    if (ret < 0)
        return error_set(err, -ret, "core.bad-service", parse.hint, "%s", parse.message);
    service->loadable = true;
    ret = service_init(service, core) < 0
              ? error_set(err, ENOMEM, "core.bad-service", NULL, "no memory for %s", name)
              : check_requires(service, err);
    if (ret < 0) {
        service_done(service);
        return ret;
    }
    core->service_count++;
    *ret_service = service;
    return 0;
}
