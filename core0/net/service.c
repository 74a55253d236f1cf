/*
 * service.c - the methods of org.croft.net that make and remove: parameters in, replies out.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "netd.h"

#define CODE "net.bad-request"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PORTS_MAX 256  /* of one reservation */
#define NAMES_MAX 1024 /* of one reservation */

/* The parameters of all methods; each reads those that it names. */
struct request {
    uint64_t reservation, revision;
    const char *service, *network, *netns;
    bool internal;
    yyjson_val *ports, *names;
};

#define RESERVATION                                                                                \
    {                                                                                              \
        "reservation", JSON_UINT, offsetof(struct request, reservation), true, 1, 0                \
    }
#define REVISION                                                                                   \
    {                                                                                              \
        "revision", JSON_UINT, offsetof(struct request, revision), true, 1, UINT32_MAX             \
    }
#define SERVICE                                                                                    \
    {                                                                                              \
        "service", JSON_STRING, offsetof(struct request, service), true, 1, STATE_SERVICE_MAX      \
    }
#define NETWORK                                                                                    \
    {                                                                                              \
        "network", JSON_STRING, offsetof(struct request, network), true, 1, STATE_SERVICE_MAX      \
    }

static const struct json_field ensure_fields[] = {
    RESERVATION, NETWORK, {"internal", JSON_BOOL, offsetof(struct request, internal), true, 0, 0}};
static const struct json_field attach_fields[] = {
    RESERVATION,
    REVISION,
    SERVICE,
    NETWORK,
    {"netns", JSON_STRING, offsetof(struct request, netns), true, 1, 1024}};
static const struct json_field detach_fields[] = {RESERVATION, REVISION, SERVICE};
static const struct json_field expose_fields[] = {
    RESERVATION,
    {"ports", JSON_ARRAY, offsetof(struct request, ports), true, 0, PORTS_MAX},
    {"names", JSON_ARRAY, offsetof(struct request, names), true, 0, NAMES_MAX}};
static const struct json_field remove_fields[] = {RESERVATION};

/* As docs/contracts.md has it: [a-z0-9][a-z0-9_-]{0,62}; with dots, a name of the DNS. */
static bool is_name(const char *text, bool dots)
{
    size_t len = strlen(text);

    if (len == 0 || text[0] == '-' || text[0] == '_' || text[0] == '.' || text[len - 1] == '.')
        return false;
    return text[strspn(text, dots ? "abcdefghijklmnopqrstuvwxyz0123456789_-."
                                  : "abcdefghijklmnopqrstuvwxyz0123456789_-")] == '\0';
}

static int read_request(yyjson_val *params, const struct json_field *fields, size_t count,
                        struct request *request, struct error *err)
{
    int r;

    *request = (struct request){0};
    r = json_read(params, fields, count, 0, request, CODE, err);
    if (r == 0 && request->service != NULL && !is_name(request->service, false))
        r = error_set(err, EINVAL, CODE, NULL, "\"%s\" is no name of a service", request->service);
    if (r == 0 && request->network != NULL && !is_name(request->network, false))
        r = error_set(err, EINVAL, CODE, NULL, "\"%s\" is no name of a network", request->network);
    return r;
}

static void set_instance(const struct request *request, struct instance *instance)
{
    *instance = (struct instance){.reservation = request->reservation,
                                  .revision = (uint32_t)request->revision};
    strcpy(instance->service, request->service);
}

static yyjson_mut_doc *new_reply(yyjson_mut_val **ret_root)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    *ret_root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *ret_root);
    return doc;
}

static void reply(struct varlink_call *call, int r, const struct error *err)
{
    if (r < 0)
        varlink_call_fail(call, err);
    else
        varlink_call_reply(call, NULL);
}

static void put_net(yyjson_mut_doc *doc, yyjson_mut_val *item, const char *subnet_key,
                    const char *gateway_key, const struct address *gateway)
{
    char text[ADDRESS_TEXT_MAX];
    struct address net;

    address_network(gateway, &net);
    yyjson_mut_obj_add_strcpy(doc, item, subnet_key, address_text_prefix(&net, text, sizeof(text)));
    yyjson_mut_obj_add_strcpy(doc, item, gateway_key, address_text(gateway, text, sizeof(text)));
}

static void put_network(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct network *network)
{
    yyjson_mut_obj_add_uint(doc, item, "reservation", network->reservation);
    yyjson_mut_obj_add_strcpy(doc, item, "network", network->name);
    yyjson_mut_obj_add_strcpy(doc, item, "bridge", network->bridge);
    put_net(doc, item, "subnet4", "gateway4", &network->gateway4);
    put_net(doc, item, "subnet6", "gateway6", &network->gateway6);
}

static void put_attachment(yyjson_mut_doc *doc, yyjson_mut_val *item, const struct network *network,
                           const struct attachment *attachment)
{
    struct address address4, address6;
    char text[ADDRESS_TEXT_MAX];

    attachment_addresses(network, attachment, &address4, &address6);
    yyjson_mut_obj_add_uint(doc, item, "reservation", attachment->instance.reservation);
    yyjson_mut_obj_add_uint(doc, item, "revision", attachment->instance.revision);
    yyjson_mut_obj_add_strcpy(doc, item, "service", attachment->instance.service);
    yyjson_mut_obj_add_strcpy(doc, item, "network", attachment->network);
    yyjson_mut_obj_add_strcpy(doc, item, "interface", attachment->interface);
    yyjson_mut_obj_add_strcpy(doc, item, "address4", address_text(&address4, text, sizeof(text)));
    yyjson_mut_obj_add_strcpy(doc, item, "address6", address_text(&address6, text, sizeof(text)));
}

void netd_ensure_network(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    const struct network *network = NULL;
    struct request request;
    struct error err = {0};
    yyjson_mut_val *root;
    yyjson_mut_doc *doc;
    int r = read_request(params, ensure_fields, COUNT(ensure_fields), &request, &err);

    if (r == 0)
        r = networks_ensure(netd->networks, request.reservation, request.network, request.internal,
                            &network, &err);
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    doc = new_reply(&root);
    put_network(doc, yyjson_mut_obj_add_obj(doc, root, "network"), network);
    varlink_call_reply(call, doc);
}

void netd_attach(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    const struct attachment *attachment = NULL;
    struct instance instance;
    struct request request;
    struct error err = {0};
    yyjson_mut_val *root;
    yyjson_mut_doc *doc;
    int r = read_request(params, attach_fields, COUNT(attach_fields), &request, &err);

    if (r == 0) {
        set_instance(&request, &instance);
        r = networks_attach(netd->networks, &instance, request.network, request.netns, &attachment,
                            &err);
    }
    if (r < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    doc = new_reply(&root);
    put_attachment(
        doc, yyjson_mut_obj_add_obj(doc, root, "attachment"),
        state_network(networks_state(netd->networks), request.reservation, request.network),
        attachment);
    varlink_call_reply(call, doc);
}

void netd_detach(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    struct instance instance;
    struct request request;
    struct error err = {0};
    int r = read_request(params, detach_fields, COUNT(detach_fields), &request, &err);

    if (r == 0) {
        set_instance(&request, &instance);
        r = networks_detach(netd->networks, &instance, &err);
    }
    reply(call, r, &err);
}

void netd_remove_reservation(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    struct request request;
    struct error err = {0};
    int r = read_request(params, remove_fields, COUNT(remove_fields), &request, &err);

    if (r == 0)
        r = networks_remove(netd->networks, request.reservation, &err);
    reply(call, r, &err);
}

static int read_port(yyjson_val *item, uint64_t reservation, struct port *port, struct error *err)
{
    struct {
        const char *protocol, *service;
        uint64_t published, target, revision;
        bool local, inside;
    } row = {0};
    static const struct json_field fields[] = {
        {"protocol", JSON_STRING, offsetof(__typeof__(row), protocol), true, 0, 8},
        {"published", JSON_UINT, offsetof(__typeof__(row), published), true, 1, UINT16_MAX},
        {"target", JSON_UINT, offsetof(__typeof__(row), target), true, 1, UINT16_MAX},
        {"revision", JSON_UINT, offsetof(__typeof__(row), revision), true, 1, UINT32_MAX},
        {"service", JSON_STRING, offsetof(__typeof__(row), service), true, 1, STATE_SERVICE_MAX},
        {"local", JSON_BOOL, offsetof(__typeof__(row), local), false, 0, 0},
        {"inside", JSON_BOOL, offsetof(__typeof__(row), inside), false, 0, 0},
    };
    int r = json_read(item, fields, COUNT(fields), 0, &row, CODE, err);

    if (r < 0)
        return r;
    if (row.inside && !row.local)
        return error_set(err, EINVAL, CODE, NULL, "only a local port can be for the inside");
    if (strcmp(row.protocol, "tcp") != 0 && strcmp(row.protocol, "udp") != 0)
        return error_set(err, EINVAL, CODE, "tcp or udp", "\"%s\" is no protocol", row.protocol);
    *port = (struct port){
        .reservation = reservation,
        .protocol = strcmp(row.protocol, "tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP,
        .published = (uint16_t)row.published,
        .target = (uint16_t)row.target,
        .revision = (uint32_t)row.revision,
        .local = row.local,
        .inside = row.inside,
    };
    strcpy(port->service, row.service);
    return 0;
}

static int read_name(yyjson_val *item, uint64_t reservation, struct name *name, struct error *err)
{
    struct {
        const char *network, *name, *service;
        uint64_t revision;
    } row = {0};
    static const struct json_field fields[] = {
        {"network", JSON_STRING, offsetof(__typeof__(row), network), true, 1, STATE_SERVICE_MAX},
        {"name", JSON_STRING, offsetof(__typeof__(row), name), true, 1, STATE_NAME_MAX},
        {"revision", JSON_UINT, offsetof(__typeof__(row), revision), true, 1, UINT32_MAX},
        {"service", JSON_STRING, offsetof(__typeof__(row), service), true, 1, STATE_SERVICE_MAX},
    };
    int r = json_read(item, fields, COUNT(fields), 0, &row, CODE, err);

    if (r < 0)
        return r;
    *name = (struct name){.reservation = reservation, .revision = (uint32_t)row.revision};
    /* The DNS knows no upper and lower case. */
    for (size_t i = 0; row.name[i] != '\0'; i++)
        name->name[i] =
            (char)(row.name[i] >= 'A' && row.name[i] <= 'Z' ? row.name[i] + 32 : row.name[i]);
    if (!is_name(name->name, true))
        return error_set(err, EINVAL, CODE, NULL, "\"%s\" is no name", row.name);
    strcpy(name->network, row.network);
    strcpy(name->service, row.service);
    return 0;
}

static int read_lists(const struct request *request, struct port *ports, struct name *names,
                      struct error *err)
{
    yyjson_val *item;
    size_t index, max;

    yyjson_arr_foreach(request->ports, index, max, item)
    {
        if (read_port(item, request->reservation, &ports[index], err) < 0)
            return -EINVAL;
    }
    yyjson_arr_foreach(request->names, index, max, item)
    {
        if (read_name(item, request->reservation, &names[index], err) < 0)
            return -EINVAL;
    }
    return 0;
}

void netd_expose(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    struct request request;
    struct error err = {0};
    struct port *ports = NULL;
    struct name *names = NULL;
    int r = read_request(params, expose_fields, COUNT(expose_fields), &request, &err);

    if (r == 0) {
        ports = calloc(yyjson_arr_size(request.ports) + 1, sizeof(*ports));
        names = calloc(yyjson_arr_size(request.names) + 1, sizeof(*names));
        r = ports == NULL || names == NULL
                ? error_set(&err, ENOMEM, "net.no-memory", NULL, "no memory")
                : read_lists(&request, ports, names, &err);
    }
    if (r == 0)
        r = networks_expose(netd->networks, request.reservation, ports,
                            yyjson_arr_size(request.ports), names, yyjson_arr_size(request.names),
                            &err);
    free(ports);
    free(names);
    reply(call, r, &err);
}

static bool is_present(const struct rtnl_link *links, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(links[i].name, name) == 0)
            return true;
    return false;
}

void netd_list(struct varlink_call *call, yyjson_val *params, void *data)
{
    struct netd *netd = data;
    struct state *state = networks_state(netd->networks);
    struct rtnl_link *links;
    struct error err = {0};
    yyjson_mut_val *root, *list;
    yyjson_mut_doc *doc;
    size_t count;

    (void)params;
    if (networks_links(netd->networks, &links, &count, &err) < 0) {
        varlink_call_fail(call, &err);
        return;
    }
    doc = new_reply(&root);
    list = yyjson_mut_obj_add_arr(doc, root, "networks");
    for (size_t i = 0; i < state->network_count; i++)
        if (is_present(links, count, state->networks[i].bridge))
            put_network(doc, yyjson_mut_arr_add_obj(doc, list), &state->networks[i]);
    list = yyjson_mut_obj_add_arr(doc, root, "attachments");
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *row = &state->attachments[i];
        const struct network *network =
            state_network(state, row->instance.reservation, row->network);

        if (network != NULL && is_present(links, count, row->host_interface))
            put_attachment(doc, yyjson_mut_arr_add_obj(doc, list), network, row);
    }
    list = yyjson_mut_obj_add_arr(doc, root, "ports");
    for (size_t i = 0; i < state->port_count; i++) {
        const struct port *port = &state->ports[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        yyjson_mut_obj_add_uint(doc, item, "reservation", port->reservation);
        yyjson_mut_obj_add_str(doc, item, "protocol",
                               port->protocol == IPPROTO_TCP ? "tcp" : "udp");
        yyjson_mut_obj_add_uint(doc, item, "published", port->published);
        yyjson_mut_obj_add_uint(doc, item, "target", port->target);
        yyjson_mut_obj_add_uint(doc, item, "revision", port->revision);
        yyjson_mut_obj_add_strcpy(doc, item, "service", port->service);
        yyjson_mut_obj_add_bool(doc, item, "local", port->local);
        yyjson_mut_obj_add_bool(doc, item, "inside", port->inside);
    }
    free(links);
    varlink_call_reply(call, doc);
}
