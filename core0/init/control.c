/*
 * control.c - see control.h. One row of the table per method.
 */
#include "init/control.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gen/interfaces.h"
#include "init/cgroup.h"
#include "init/control_log.h"
#include "init/core.h"
#include "init/service.h"
#include "init/stop.h"
#include "init/text.h"
#include "init/watchdog.h"
#include "lib/json.h"

#define CONTROL_MESSAGE_MAX 16384u /* bytes; our methods take a name and a number */

struct control {
    struct core *core;
    struct varlink_server *server;
};

/* ---- answers ---- */

static yyjson_mut_doc *control_new(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

/* Text from outside: whatever it holds, the answer is JSON. */
static void control_add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                             const char *text)
{
    char clean[512];

    text_clean(clean, sizeof(clean), text, strlen(text));
    yyjson_mut_obj_add_strcpy(doc, object, name, clean);
}

static void control_add_problem(yyjson_mut_doc *doc, yyjson_mut_val *object,
                                const struct error *err)
{
    control_add_text(doc, object, "code", err->code);
    control_add_text(doc, object, "message", err->message);
    control_add_text(doc, object, "hint", err->hint);
}

static void control_fail(struct varlink_call *call, int error, const char *code,
                         const char *message, const char *hint)
{
    struct error err = {0};

    error_set(&err, error, code, hint, "%s", message);
    varlink_call_fail(call, &err);
}

static void control_get_status(struct varlink_call *call, yyjson_val *params, void *data)
{
    static const char *const stages[] = {"booting", "running", "stopping"};
    struct core *core = data;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = control_new(&root);
    yyjson_mut_val *list;

    (void)params;
    control_add_text(doc, root, "version", core->version);
    control_add_text(doc, root, "bootId", core->boot_id);
    yyjson_mut_obj_add_str(doc, root, "runmode", params_runmode_name(&core->params));
    yyjson_mut_obj_add_str(doc, root, "stage", stages[core->stage]);
    yyjson_mut_obj_add_uint(doc, root, "uptime", loop_clock());
    list = yyjson_mut_obj_add_arr(doc, root, "facts");
    for (size_t i = 0; i < core->fact_count; i++) {
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, list);

        control_add_text(doc, entry, "key", core->facts[i].key);
        control_add_text(doc, entry, "value", core->facts[i].value);
    }
    if (core->last_error.text[0] != '\0') {
        char text[512];

        snprintf(text, sizeof(text), "%s: %s", core->last_error.service, core->last_error.text);
        control_add_text(doc, root, "lastError", text);
    }
    if (core->previous_end[0] != '\0')
        control_add_text(doc, root, "previousEnd", core->previous_end);
    list = yyjson_mut_obj_add_arr(doc, root, "bootErrors");
    for (size_t i = 0; i < core->params.error_count && i < PARAMS_ERRORS_MAX; i++)
        control_add_problem(doc, yyjson_mut_arr_add_obj(doc, list), &core->params.errors[i]);
    if (watchdog_identity(core) != NULL)
        control_add_text(doc, root, "watchdog", watchdog_identity(core));
    varlink_call_reply(call, doc);
}

static void control_add_service(yyjson_mut_doc *doc, yyjson_mut_val *object,
                                const struct service *service)
{
    uint64_t memory = cgroup_memory(service);
    char said[256];

    service_describe(service, said, sizeof(said));
    control_add_text(doc, object, "name", service->unit.name);
    control_add_text(doc, object, "description",
                     service->unit.description != NULL ? service->unit.description : "");
    yyjson_mut_obj_add_str(doc, object, "state", service_state_name(service->state));
    yyjson_mut_obj_add_str(doc, object, "result", service_result_name(service->result));
    control_add_text(doc, object, "status", said);
    if (service->pid > 0)
        yyjson_mut_obj_add_int(doc, object, "pid", service->pid);
    yyjson_mut_obj_add_uint(doc, object, "since", service->since_us);
    yyjson_mut_obj_add_uint(doc, object, "restarts", service->restarts);
    if (memory > 0)
        yyjson_mut_obj_add_uint(doc, object, "memory", memory);
    if (error_is_set(&service->error))
        control_add_problem(doc, yyjson_mut_obj_add_obj(doc, object, "error"), &service->error);
}

static void control_list_services(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct core *core = data;
    yyjson_mut_val *root;
    yyjson_mut_doc *doc = control_new(&root);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "services");

    (void)params;
    for (size_t i = 0; i < core->service_count; i++)
        control_add_service(doc, yyjson_mut_arr_add_obj(doc, list), &core->services[i]);
    varlink_call_reply(call, doc);
}

/* The service that "name" says; `make`: of its template if there is none yet. NULL: the call has been answered. */
static struct service *control_find(struct varlink_call *call, yyjson_val *params,
                                    struct core *core, bool make)
{
    struct {
        const char *name;
    } wanted = {NULL};
    static const struct json_field fields[] = {
        {"name", JSON_STRING, 0, true, 1, UNIT_NAME_MAX},
    };
    struct error err = {0};
    struct service *service = NULL;

    if (json_read(params, fields, 1, 0, &wanted, "core.no-service", NULL) < 0) {
        varlink_call_invalid(call, "name");
        return NULL;
    }
    if (make && core->stage != CORE_STOPPING) {
        if (service_instantiate(core, wanted.name, &service, &err) < 0)
            varlink_call_fail(call, &err);
        return service;
    }
    service = service_find(core, wanted.name);
    if (service == NULL)
        control_fail(call, ENOENT, "core.no-service", "there is no service of this name",
                     "ListServices names all");
    return service;
}

static void control_get_service(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct service *service = control_find(call, params, data, false);
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;

    if (service == NULL)
        return;
    doc = control_new(&root);
    control_add_service(doc, yyjson_mut_obj_add_obj(doc, root, "service"), service);
    varlink_call_reply(call, doc);
}

static void control_order(struct varlink_call *call, yyjson_val *params, struct core *core,
                          bool make, void (*order)(struct service *service))
{
    struct service *service = control_find(call, params, core, make);

    if (service == NULL)
        return;
    if (core->stage == CORE_STOPPING) {
        control_fail(call, ESHUTDOWN, "core.stopping", "the machine is being stopped", "");
        return;
    }
    if (!service->loadable) {
        struct error err = {0};

        error_set(&err, EINVAL, "core.bad-service", service->error.hint, "%s",
                  service->error.message);
        varlink_call_fail(call, &err);
        return;
    }
    order(service);
    varlink_call_reply(call, NULL);
}

static void control_start_service(struct varlink_call *call, yyjson_val *params, void *data)
{
    control_order(call, params, data, true, service_start);
}

static void control_stop_service(struct varlink_call *call, yyjson_val *params, void *data)
{
    control_order(call, params, data, false, service_stop);
}

static void control_restart_service(struct varlink_call *call, yyjson_val *params, void *data)
{
    control_order(call, params, data, true, service_restart);
}

static void control_power_off(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    varlink_call_reply(call, NULL);
    stop_begin(data, CORE_END_POWEROFF);
}

static void control_reboot(struct varlink_call *call, yyjson_val *params, void *data)
{
    (void)params;
    varlink_call_reply(call, NULL);
    stop_begin(data, CORE_END_REBOOT);
}

static void control_hang(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct core *core = data;
    sigset_t all;

    (void)params;
    if (core->params.runmode != PARAMS_DEV) {
        control_fail(call, EPERM, "core.not-dev",
                     "only a node with runmode=dev can be made to hang", "");
        return;
    }
    varlink_call_reply(call, NULL);
    watchdog_set_timeout(core, 3);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;)
        pause();
}

/* gated shows the farmer how the machine is; its number is that of the image's passwd file. Whoever is not in its group cannot open the
 * socket at all. */
#define GATED_ID 108
static const uid_t watchers[] = {GATED_ID, VARLINK_UID_END};

static const struct varlink_method control_methods[] = {
    {"org.croft.core.GetStatus", control_get_status, watchers},
    {"org.croft.core.ListServices", control_list_services, watchers},
    {"org.croft.core.GetService", control_get_service, watchers},
    {"org.croft.core.StartService", control_start_service, NULL},
    {"org.croft.core.StopService", control_stop_service, NULL},
    {"org.croft.core.RestartService", control_restart_service, NULL},
    {"org.croft.core.GetLog", control_get_log, watchers},
    {"org.croft.core.PowerOff", control_power_off, NULL},
    {"org.croft.core.Reboot", control_reboot, NULL},
    {"org.croft.core.Hang", control_hang, NULL},
};

static const struct varlink_interface control_interfaces[] = {
    {"org.croft.core", varlink_org_croft_core, control_methods,
     sizeof(control_methods) / sizeof(control_methods[0])},
};

int control_open(struct core *core, struct error *err)
{
    struct control *control = calloc(1, sizeof(*control));
    char path[300];
    int ret;

    if (control == NULL)
        return error_set(err, ENOMEM, "core.control", NULL, "no memory");
    control->core = core;
    ret = varlink_server_new(core->loop, "core0", core->version, control_interfaces, 1, core,
                             &control->server);
    if (ret < 0) {
        free(control);
        return error_set(err, -ret, "core.control", NULL, "no server: %s", strerror(-ret));
    }
    varlink_server_set_message_max(control->server, CONTROL_MESSAGE_MAX);
    core->control = control;
    ret = varlink_server_listen(control->server,
                                core_path(core, path, sizeof(path), "/run/croft/core0"), 0660, err);
    if (ret == 0 && chown(path, (uid_t)-1, GATED_ID) < 0 && errno != EINVAL && errno != EPERM)
        return error_set(err, errno, "core.control", NULL, "%s: %s", path, strerror(errno));
    return ret;
}

void control_close(struct core *core)
{
    if (core->control == NULL)
        return;
    varlink_server_free(core->control->server);
    free(core->control);
    core->control = NULL;
}
