/*
 * compose_ports.c - how a service is reached and what it waits for: ports, networks, depends_on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/compose_service.h"

/* ---- ports ---- */

/* "8000" or "8000-8010". */
static int port_range(const char *text, uint32_t *ret_first, uint32_t *ret_last)
{
    unsigned first, last;
    int used = 0;

    if (sscanf(text, "%5u%n", &first, &used) != 1) {
        return -EINVAL;
    }
    last = first;
    if (text[used] == '-') {
        int more = 0;
        if (sscanf(text + used + 1, "%5u%n", &last, &more) != 1) {
            return -EINVAL;
        }
        used += 1 + more;
    }
    if (text[used] != '\0' || first == 0 || last > 65535 || last < first || last - first > 63) {
        return -EINVAL;
    }
    *ret_first = first;
    *ret_last = last;
    return 0;
}

static int add_ports(struct service_work *work, const char *key, yyjson_mut_val *list,
                     const char *published, const char *target, const char *protocol)
{
    yyjson_mut_doc *doc = work->context->doc;
    uint32_t p, p_last, t, t_last;

    if (port_range(published, &p, &p_last) < 0 || port_range(target, &t, &t_last) < 0 ||
        p_last - p != t_last - t) {
        return service_bad(work, key, "not of the form PUBLISHED:TARGET");
    }
    if (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0) {
        return service_bad(work, key, "the protocol is neither tcp nor udp");
    }
    for (; p <= p_last; p++, t++) {
        yyjson_mut_val *port = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, port, "published", p);
        yyjson_mut_obj_add_uint(doc, port, "target", t);
        yyjson_mut_obj_add_strcpy(doc, port, "protocol", protocol);
    }
    return 0;
}

static int short_port(struct service_work *work, const char *key, yyjson_mut_val *list,
                      const char *text)
{
    char copy[64];
    size_t len = strcspn(text, "/");
    const char *protocol = text[len] == '/' ? text + len + 1 : "tcp";

    if (len >= sizeof(copy)) {
        return service_bad(work, key, "not of the form PUBLISHED:TARGET");
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *colon = strchr(copy, ':');
    if (colon == NULL) {
        return service_bad(work, key, "a port wants a published one too: PUBLISHED:TARGET");
    }
    if (strchr(colon + 1, ':') != NULL) {
        return service_unsupported(work, key, "an address of the host");
    }
    *colon = '\0';
    return add_ports(work, key, list, copy, colon + 1, protocol);
}

static int long_port(struct service_work *work, const char *key, yyjson_mut_val *list,
                     yyjson_mut_val *port)
{
    char published[32], target[32], protocol[8] = "tcp", space[32];
    size_t i, max;
    yyjson_mut_val *name, *value;

    published[0] = target[0] = '\0';
    yyjson_mut_obj_foreach(port, i, max, name, value)
    {
        const char *member = yyjson_mut_get_str(name);
        const char *text = compose_scalar(value, space, sizeof(space));
        if (text == NULL) {
            return service_bad(work, key, "a member is not a text");
        }
        if (strcmp(member, "published") == 0) {
            snprintf(published, sizeof(published), "%s", text);
        } else if (strcmp(member, "target") == 0) {
            snprintf(target, sizeof(target), "%s", text);
        } else if (strcmp(member, "protocol") == 0) {
            snprintf(protocol, sizeof(protocol), "%s", text);
        } else if (strcmp(member, "name") != 0 && strcmp(member, "app_protocol") != 0) {
            return service_unsupported(work, key, member);
        }
    }
    return add_ports(work, key, list, published, target, protocol);
}

int service_convert_ports(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(work->context->doc, work->out, "ports");
    char space[32];
    size_t i, max;
    yyjson_mut_val *item;

    if (!yyjson_mut_is_arr(value)) {
        return service_bad(work, key, "not a list");
    }
    yyjson_mut_arr_foreach(value, i, max, item)
    {
        const char *text = compose_scalar(item, space, sizeof(space));
        int ret =
            text != NULL ? short_port(work, key, list, text) : long_port(work, key, list, item);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- networks, dependencies ---- */

static int add_network(struct service_work *work, const char *key, yyjson_mut_val *networks,
                       const char *name, yyjson_mut_val *options)
{
    yyjson_mut_doc *doc = work->context->doc;
    yyjson_mut_val *network = yyjson_mut_obj(doc);
    size_t i, max;
    yyjson_mut_val *member, *value;

    if (name == NULL ||
        (strcmp(name, "default") != 0 &&
         yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "networks"), name) == NULL)) {
        return service_bad(work, key, "the network is not named under networks");
    }
    yyjson_mut_obj_foreach(options, i, max, member, value)
    {
        if (!yyjson_mut_equals_str(member, "aliases") || !yyjson_mut_is_arr(value)) {
            return service_unsupported(work, key, yyjson_mut_get_str(member));
        }
        int ret =
            service_copy_texts(work, key, value, yyjson_mut_obj_add_arr(doc, network, "aliases"));
        if (ret < 0) {
            return ret;
        }
    }
    yyjson_mut_obj_add(networks, yyjson_mut_strcpy(doc, name), network);
    return 0;
}

int service_convert_networks(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *networks = service_object(work, "networks");
    size_t i, max;
    yyjson_mut_val *name, *item;
    int ret = 0;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        ret = ret == 0 ? add_network(work, key, networks, yyjson_mut_get_str(item), NULL) : ret;
    }
    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        ret = ret == 0 ? add_network(work, key, networks, yyjson_mut_get_str(name), item) : ret;
    }
    return ret;
}

static int add_dependency(struct service_work *work, const char *key, yyjson_mut_val *depends,
                          const char *name, const char *condition)
{
    static const char *const words[][2] = {
        {"service_started", "started"},
        {"service_healthy", "healthy"},
        {"service_completed_successfully", "completed"},
    };
    if (name == NULL ||
        yyjson_mut_obj_get(yyjson_mut_obj_get(work->file, "services"), name) == NULL) {
        return service_bad(work, key, "there is no such service");
    }
    for (size_t i = 0; condition != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(condition, words[i][0]) == 0) {
            yyjson_mut_obj_add(depends, yyjson_mut_strcpy(work->context->doc, name),
                               yyjson_mut_str(work->context->doc, words[i][1]));
            return 0;
        }
    }
    return service_bad(work, key, "the condition is unknown");
}

int service_convert_depends_on(struct service_work *work, const char *key, yyjson_mut_val *value)
{
    yyjson_mut_val *depends = service_object(work, "dependsOn");
    size_t i, max;
    yyjson_mut_val *name, *item;
    int ret = 0;

    yyjson_mut_arr_foreach(value, i, max, item)
    {
        ret = ret == 0
                  ? add_dependency(work, key, depends, yyjson_mut_get_str(item), "service_started")
                  : ret;
    }
    yyjson_mut_obj_foreach(value, i, max, name, item)
    {
        if (ret == 0 && yyjson_mut_obj_size(item) != 1) {
            ret = service_unsupported(work, key, "required or restart");
        }
        ret = ret == 0 ? add_dependency(work, key, depends, yyjson_mut_get_str(name),
                                        yyjson_mut_get_str(yyjson_mut_obj_get(item, "condition")))
                       : ret;
    }
    return ret;
}
