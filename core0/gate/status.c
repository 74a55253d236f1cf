/*
 * status.c - how a tenant's reservation is, and restarting one of its services.
 */
#include <string.h>

#include "gate.h"

static void copy_own(struct request *request, yyjson_val *array, const char *name)
{
    yyjson_mut_doc *doc = request->answer;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), name);
    yyjson_val *item;
    size_t i, max;

    yyjson_arr_foreach(array, i, max, item)
    {
        if (yyjson_get_uint(yyjson_obj_get(item, "reservation")) == request->challenge.reservation)
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, item));
    }
}

static void take_containers(struct request *request, yyjson_val *parameters)
{
    copy_own(request, yyjson_obj_get(parameters, "containers"), "containers");
    yyjson_mut_doc *doc = request->answer;
    request->answer = NULL;
    request_reply(request, doc);
}

static void take_entries(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_val *root;

    request->answer = gate_parameters(&root);
    yyjson_mut_obj_add_uint(request->answer, root, "reservation", request->challenge.reservation);
    copy_own(request, yyjson_obj_get(parameters, "entries"), "entries");
    request_call(request, "contd", "org.croft.container.List", NULL, take_containers);
}

void status_handle(struct request *request)
{
    request_call(request, "provd", "org.croft.provision.List", NULL, take_entries);
}

static void restarted(struct request *request, yyjson_val *parameters)
{
    yyjson_mut_val *root;

    (void)parameters;
    request_reply(request, gate_parameters(&root));
}

void restart_handle(struct request *request)
{
    yyjson_mut_val *root;

    request_call(request, "contd", "org.croft.container.Restart", gate_instance(request, &root),
                 restarted);
}
