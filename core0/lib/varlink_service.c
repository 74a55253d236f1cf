/*
 * varlink_service.c - org.varlink.service, which every server answers (https://varlink.org/Service).
 */
#include <string.h>

#include "lib/varlink_message.h"

static const char varlink_service_description[] =
    "# What every varlink service answers (https://varlink.org)\n"
    "interface org.varlink.service\n"
    "\n"
    "method GetInfo() -> (vendor: string, product: string, version: string, url: string, "
    "interfaces: []string)\n"
    "method GetInterfaceDescription(interface: string) -> (description: string)\n"
    "\n"
    "error InterfaceNotFound (interface: string)\n"
    "error MethodNotFound (method: string)\n"
    "error MethodNotImplemented (method: string)\n"
    "error InvalidParameter (parameter: string)\n"
    "error PermissionDenied ()\n"
    "error ExpectedMore ()\n";

void varlink_get_info(const struct varlink_identity *server, struct varlink_call *call)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *names = yyjson_mut_arr(doc);

    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "vendor", "Croft");
    yyjson_mut_obj_add_str(doc, root, "product", server->product);
    yyjson_mut_obj_add_str(doc, root, "version", server->version);
    yyjson_mut_obj_add_str(doc, root, "url", "");
    yyjson_mut_arr_add_str(doc, names, "org.varlink.service");
    for (size_t i = 0; i < server->interface_count; i++)
        yyjson_mut_arr_add_str(doc, names, server->interfaces[i].name);
    yyjson_mut_obj_add_val(doc, root, "interfaces", names);
    varlink_call_reply(call, doc);
}

void varlink_get_description(const struct varlink_identity *server, struct varlink_call *call,
                             yyjson_val *params)
{
    const char *name = yyjson_get_str(yyjson_obj_get(params, "interface"));
    const char *description = NULL;
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;

    if (name == NULL) {
        varlink_call_invalid(call, "interface");
        return;
    }
    if (strcmp(name, "org.varlink.service") == 0)
        description = varlink_service_description;
    for (size_t i = 0; i < server->interface_count; i++) {
        if (strcmp(server->interfaces[i].name, name) == 0)
            description = server->interfaces[i].description;
    }
    if (description == NULL) {
        varlink_call_error_str(call, "org.varlink.service.InterfaceNotFound", "interface", name);
        return;
    }
    doc = yyjson_mut_doc_new(NULL);
    root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "description", description);
    varlink_call_reply(call, doc);
}
