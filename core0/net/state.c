/*
 * state.c - see state.h.
 */
#include "state.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/file.h"
#include "lib/json.h"

#define CODE "net.bad-state"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void state_done(struct state *state)
{
    free(state->networks);
    free(state->attachments);
    free(state->ports);
    free(state->names);
    *state = (struct state){.path = state->path};
}

bool instance_equal(const struct instance *a, const struct instance *b)
{
    return a->reservation == b->reservation && a->revision == b->revision &&
           strcmp(a->service, b->service) == 0;
}

/* ---- lists ---- */

/* Room for one more row; NULL: no memory or too many. Lists grow by doubling at powers of two. */
static void *grow(void *list, size_t count, size_t row, size_t max)
{
    void *bigger;

    if (count >= max)
        return NULL;
    if (count != 0 && (count < 16 || (count & (count - 1)) != 0))
        return list;
    bigger = reallocarray(list, count < 16 ? 16 : count * 2, row);
    return bigger;
}

struct network *state_add_network(struct state *state)
{
    struct network *list =
        grow(state->networks, state->network_count, sizeof(*list), STATE_NETWORKS_MAX);

    if (list == NULL)
        return NULL;
    state->networks = list;
    list[state->network_count] = (struct network){0};
    return &list[state->network_count++];
}

struct attachment *state_add_attachment(struct state *state)
{
    struct attachment *list =
        grow(state->attachments, state->attachment_count, sizeof(*list), STATE_ATTACHMENTS_MAX);

    if (list == NULL)
        return NULL;
    state->attachments = list;
    list[state->attachment_count] = (struct attachment){0};
    return &list[state->attachment_count++];
}

int state_add_port(struct state *state, const struct port *port)
{
    struct port *list = grow(state->ports, state->port_count, sizeof(*list), STATE_PORTS_MAX);

    if (list == NULL)
        return -ENOSPC;
    state->ports = list;
    list[state->port_count++] = *port;
    return 0;
}

int state_add_name(struct state *state, const struct name *name)
{
    struct name *list = grow(state->names, state->name_count, sizeof(*list), STATE_NAMES_MAX);

    if (list == NULL)
        return -ENOSPC;
    state->names = list;
    list[state->name_count++] = *name;
    return 0;
}

struct network *state_network(struct state *state, uint64_t reservation, const char *name)
{
    for (size_t i = 0; i < state->network_count; i++)
        if (state->networks[i].reservation == reservation &&
            strcmp(state->networks[i].name, name) == 0)
            return &state->networks[i];
    return NULL;
}

struct attachment *state_attachment(struct state *state, const struct instance *instance,
                                    const char *network)
{
    for (size_t i = 0; i < state->attachment_count; i++)
        if (instance_equal(&state->attachments[i].instance, instance) &&
            (network == NULL || strcmp(state->attachments[i].network, network) == 0))
            return &state->attachments[i];
    return NULL;
}

/* A list keeps its block until it is empty: grow() counts on the powers of two it passed. */
#define DROP(list, count, condition)                                                               \
    do {                                                                                           \
        size_t kept = 0;                                                                           \
        for (size_t i = 0; i < (count); i++) {                                                     \
            const __typeof__((list)[0]) *row = &(list)[i];                                         \
            if (condition)                                                                         \
                continue;                                                                          \
            if (kept != i)                                                                         \
                (list)[kept] = (list)[i];                                                          \
            kept++;                                                                                \
        }                                                                                          \
        (count) = kept;                                                                            \
    } while (0)

void state_drop_networks(struct state *state, uint64_t reservation)
{
    DROP(state->networks, state->network_count, row->reservation == reservation);
}

void state_drop_attachments(struct state *state, uint64_t reservation,
                            const struct instance *instance)
{
    DROP(state->attachments, state->attachment_count,
         instance != NULL ? instance_equal(&row->instance, instance)
                          : row->instance.reservation == reservation);
}

void state_drop_published(struct state *state, uint64_t reservation)
{
    DROP(state->ports, state->port_count, row->reservation == reservation);
    DROP(state->names, state->name_count, row->reservation == reservation);
}

/* ---- order ---- */

#define BY(a, b) (((a) > (b)) - ((a) < (b)))

static int compare_networks(const void *left, const void *right)
{
    const struct network *a = left, *b = right;
    int r = BY(a->reservation, b->reservation);

    return r != 0 ? r : strcmp(a->name, b->name);
}

static int compare_attachments(const void *left, const void *right)
{
    const struct attachment *a = left, *b = right;
    int r = BY(a->instance.reservation, b->instance.reservation);

    r = r != 0 ? r : BY(a->instance.revision, b->instance.revision);
    r = r != 0 ? r : strcmp(a->instance.service, b->instance.service);
    return r != 0 ? r : strcmp(a->interface, b->interface);
}

static int compare_ports(const void *left, const void *right)
{
    const struct port *a = left, *b = right;
    int r = BY(a->protocol, b->protocol);

    return r != 0 ? r : BY(a->published, b->published);
}

void state_sort(struct state *state)
{
    if (state->network_count > 1)
        qsort(state->networks, state->network_count, sizeof(*state->networks), compare_networks);
    if (state->attachment_count > 1)
        qsort(state->attachments, state->attachment_count, sizeof(*state->attachments),
              compare_attachments);
    if (state->port_count > 1)
        qsort(state->ports, state->port_count, sizeof(*state->ports), compare_ports);
}

/* ---- the file ---- */

static const char *text_of(yyjson_val *object, const char *key, size_t max)
{
    yyjson_val *value = yyjson_obj_get(object, key);

    return yyjson_is_str(value) && yyjson_get_len(value) <= max ? yyjson_get_str(value) : NULL;
}

static bool take_text(yyjson_val *object, const char *key, char *dest, size_t size)
{
    const char *text = text_of(object, key, size - 1);

    if (text == NULL)
        return false;
    strcpy(dest, text);
    return true;
}

static bool take_number(yyjson_val *object, const char *key, uint64_t max, uint64_t *dest)
{
    yyjson_val *value = yyjson_obj_get(object, key);

    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > max)
        return false;
    *dest = yyjson_get_uint(value);
    return true;
}

static bool take_address(yyjson_val *object, const char *key, uint8_t family, struct address *dest)
{
    const char *text = text_of(object, key, ADDRESS_TEXT_MAX);

    return text != NULL && address_parse(text, true, dest) == 0 && dest->family == family;
}

static bool take_network(struct state *state, yyjson_val *item)
{
    struct network *row = state_add_network(state);

    if (row == NULL)
        return false;
    row->internal = yyjson_get_bool(yyjson_obj_get(item, "internal"));
    return take_number(item, "reservation", UINT64_MAX, &row->reservation) &&
           take_text(item, "network", row->name, sizeof(row->name)) &&
           take_text(item, "bridge", row->bridge, sizeof(row->bridge)) &&
           take_address(item, "gateway4", AF_INET, &row->gateway4) &&
           take_address(item, "gateway6", AF_INET6, &row->gateway6);
}

static bool take_instance(yyjson_val *item, uint64_t *reservation, uint32_t *revision,
                          char *service)
{
    uint64_t number;

    if (!take_number(item, "reservation", UINT64_MAX, reservation) ||
        !take_number(item, "revision", UINT32_MAX, &number) ||
        !take_text(item, "service", service, STATE_SERVICE_MAX + 1))
        return false;
    *revision = (uint32_t)number;
    return true;
}

static bool take_attachment(struct state *state, yyjson_val *item)
{
    struct attachment *row = state_add_attachment(state);
    uint64_t host;

    if (row == NULL ||
        !take_instance(item, &row->instance.reservation, &row->instance.revision,
                       row->instance.service) ||
        !take_text(item, "network", row->network, sizeof(row->network)) ||
        !take_text(item, "interface", row->interface, sizeof(row->interface)) ||
        !take_text(item, "hostInterface", row->host_interface, sizeof(row->host_interface)) ||
        !take_number(item, "host", 254, &host))
        return false;
    row->host = (uint8_t)host;
    return true;
}

static bool take_port(struct state *state, yyjson_val *item)
{
    struct port row = {0};
    uint64_t protocol, published, target;

    if (!take_instance(item, &row.reservation, &row.revision, row.service) ||
        !take_number(item, "protocol", UINT8_MAX, &protocol) ||
        !take_number(item, "published", UINT16_MAX, &published) ||
        !take_number(item, "target", UINT16_MAX, &target))
        return false;
    row.protocol = (uint8_t)protocol;
    row.published = (uint16_t)published;
    row.target = (uint16_t)target;
    row.local = yyjson_get_bool(yyjson_obj_get(item, "local"));
    row.inside = yyjson_get_bool(yyjson_obj_get(item, "inside"));
    return state_add_port(state, &row) == 0;
}

static bool take_name(struct state *state, yyjson_val *item)
{
    struct name row = {0};

    return take_instance(item, &row.reservation, &row.revision, row.service) &&
           take_text(item, "network", row.network, sizeof(row.network)) &&
           take_text(item, "name", row.name, sizeof(row.name)) && state_add_name(state, &row) == 0;
}

static const struct {
    const char *key;
    bool (*take)(struct state *state, yyjson_val *item);
} lists[] = {
    {"networks", take_network},
    {"attachments", take_attachment},
    {"ports", take_port},
    {"names", take_name},
};

int state_parse(struct state *state, const char *text, size_t len, struct error *err)
{
    yyjson_doc *doc = json_parse(text, len, STATE_FILE_MAX, CODE, err);
    uint64_t ula = 0;
    bool good = doc != NULL && take_number(yyjson_doc_get_root(doc), "ula", UINT64_MAX, &ula);

    for (size_t i = 0; good && i < COUNT(lists); i++) {
        yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(doc), lists[i].key), *item;
        size_t index, max;

        good = yyjson_is_arr(list);
        yyjson_arr_foreach(list, index, max, item)
        {
            good = good && lists[i].take(state, item);
        }
    }
    yyjson_doc_free(doc);
    if (!good) {
        state_done(state);
        return error_set(err, EBADMSG, CODE, NULL, "the list of networks cannot be read");
    }
    for (unsigned i = 0; i < sizeof(state->ula); i++)
        state->ula[i] = (uint8_t)(ula >> (8 * i));
    return 0;
}

int state_load(struct state *state, const char *path, struct error *err)
{
    char *text = NULL;
    size_t len;
    int r;

    *state = (struct state){.path = path};
    r = file_read(path, STATE_FILE_MAX, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(err, -r, CODE, NULL, "%s: %s", path, strerror(-r));
    r = state_parse(state, text, len, err);
    free(text);
    return r;
}

static void put_instance(yyjson_mut_doc *doc, yyjson_mut_val *item, uint64_t reservation,
                         uint32_t revision, const char *service)
{
    yyjson_mut_obj_add_uint(doc, item, "reservation", reservation);
    yyjson_mut_obj_add_uint(doc, item, "revision", revision);
    yyjson_mut_obj_add_str(doc, item, "service", service);
}

static void put_address(yyjson_mut_doc *doc, yyjson_mut_val *item, const char *key,
                        const struct address *address)
{
    char text[ADDRESS_TEXT_MAX];

    yyjson_mut_obj_add_strcpy(doc, item, key, address_text_prefix(address, text, sizeof(text)));
}

int state_save(const struct state *state, struct error *err)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list;
    uint64_t ula = 0;
    size_t len = 0;
    char *text;
    int r;

    yyjson_mut_doc_set_root(doc, root);
    for (unsigned i = 0; i < sizeof(state->ula); i++)
        ula |= (uint64_t)state->ula[i] << (8 * i);
    yyjson_mut_obj_add_uint(doc, root, "ula", ula);
    list = yyjson_mut_obj_add_arr(doc, root, "networks");
    for (size_t i = 0; i < state->network_count; i++) {
        const struct network *row = &state->networks[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        yyjson_mut_obj_add_uint(doc, item, "reservation", row->reservation);
        yyjson_mut_obj_add_str(doc, item, "network", row->name);
        yyjson_mut_obj_add_bool(doc, item, "internal", row->internal);
        yyjson_mut_obj_add_str(doc, item, "bridge", row->bridge);
        put_address(doc, item, "gateway4", &row->gateway4);
        put_address(doc, item, "gateway6", &row->gateway6);
    }
    list = yyjson_mut_obj_add_arr(doc, root, "attachments");
    for (size_t i = 0; i < state->attachment_count; i++) {
        const struct attachment *row = &state->attachments[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        put_instance(doc, item, row->instance.reservation, row->instance.revision,
                     row->instance.service);
        yyjson_mut_obj_add_str(doc, item, "network", row->network);
        yyjson_mut_obj_add_str(doc, item, "interface", row->interface);
        yyjson_mut_obj_add_str(doc, item, "hostInterface", row->host_interface);
        yyjson_mut_obj_add_uint(doc, item, "host", row->host);
    }
    list = yyjson_mut_obj_add_arr(doc, root, "ports");
    for (size_t i = 0; i < state->port_count; i++) {
        const struct port *row = &state->ports[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        put_instance(doc, item, row->reservation, row->revision, row->service);
        yyjson_mut_obj_add_uint(doc, item, "protocol", row->protocol);
        yyjson_mut_obj_add_uint(doc, item, "published", row->published);
        yyjson_mut_obj_add_uint(doc, item, "target", row->target);
        yyjson_mut_obj_add_bool(doc, item, "local", row->local);
        yyjson_mut_obj_add_bool(doc, item, "inside", row->inside);
    }
    list = yyjson_mut_obj_add_arr(doc, root, "names");
    for (size_t i = 0; i < state->name_count; i++) {
        const struct name *row = &state->names[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);

        put_instance(doc, item, row->reservation, row->revision, row->service);
        yyjson_mut_obj_add_str(doc, item, "network", row->network);
        yyjson_mut_obj_add_str(doc, item, "name", row->name);
    }
    text = yyjson_mut_write(doc, 0, &len);
    yyjson_mut_doc_free(doc);
    if (text == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    r = file_write_atomic(state->path, text, len, 0600);
    free(text);
    return r < 0 ? error_set(err, -r, CODE, NULL, "%s: %s", state->path, strerror(-r)) : 0;
}
