/*
 * deploy_plan.c - see deploy_plan.h.
 */
#include "cli/deploy_plan.h"

#include <inttypes.h>

/* A member's text; "" where there is none, which the converter does not let happen. */
static const char *text_of(yyjson_mut_val *value)
{
    const char *text = yyjson_mut_get_str(value);
    return text != NULL ? text : "";
}

static uint64_t number_of(yyjson_mut_val *object, const char *member)
{
    return yyjson_mut_get_uint(yyjson_mut_obj_get(object, member));
}

static void print_service(const char *name, yyjson_mut_val *service, FILE *out)
{
    yyjson_mut_val *limits = yyjson_mut_obj_get(service, "resources"), *port;
    size_t p, max;

    fprintf(out, "  service %-16s image %.12s…, %s cores, %s", name,
            text_of(yyjson_mut_obj_get(service, "image")),
            cli_cores(number_of(limits, "milliCores")), cli_bytes(number_of(limits, "memory")));
    yyjson_mut_arr_foreach(yyjson_mut_obj_get(service, "ports"), p, max, port)
    {
        fprintf(out, ", port %" PRIu64, number_of(port, "published"));
    }
    fputs("\n", out);
}

static void print_duration(uint64_t ms, FILE *out)
{
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "days"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;

    while (ms % units[i].ms != 0) {
        i++;
    }
    fprintf(out, "%" PRIu64 " %s", ms / units[i].ms, units[i].unit);
}

static void print_volume(const char *name, yyjson_mut_val *volume, FILE *out)
{
    yyjson_mut_val *disk = yyjson_mut_obj_get(volume, "disk");
    yyjson_mut_val *snapshots = yyjson_mut_obj_get(volume, "snapshots");

    fprintf(out, "  volume  %-16s %s on %s", name, cli_bytes(number_of(volume, "size")),
            text_of(yyjson_mut_obj_get(volume, "kind")));
    if (disk != NULL) {
        fprintf(out, ", virtual disk (%s%s)", text_of(yyjson_mut_obj_get(disk, "filesystem")),
                yyjson_mut_obj_get(disk, "key") != NULL ? ", encrypted" : "");
    }
    if (snapshots != NULL) {
        fputs(", a snapshot every ", out);
        print_duration(number_of(snapshots, "every"), out);
        fprintf(out, ", the last %" PRIu64 " stay", number_of(snapshots, "keep"));
    }
    fputs("\n", out);
}

static void print_kv(const char *name, yyjson_mut_val *space, FILE *out)
{
    uint64_t port = number_of(space, "published");

    fprintf(out, "  kv      %-16s %s on %s, mode %s%s", name, cli_bytes(number_of(space, "size")),
            text_of(yyjson_mut_obj_get(space, "kind")), text_of(yyjson_mut_obj_get(space, "mode")),
            yyjson_mut_get_bool(yyjson_mut_obj_get(space, "public"))
                ? ", anybody may read"
                : ", read and written with its password");
    if (port != 0) {
        fprintf(out, ", port %" PRIu64, port);
    }
    if (yyjson_mut_obj_get(space, "tls") != NULL) {
        fputs(", by TLS alone", out);
    }
    fputs("\n", out);
}

void deploy_plan_print(const struct compose_result *compose, FILE *out)
{
    static const struct {
        const char *member;
        void (*print)(const char *name, yyjson_mut_val *object, FILE *out);
    } parts[] = {{"services", print_service}, {"volumes", print_volume}, {"kv", print_kv}};
    yyjson_mut_val *root = yyjson_mut_doc_get_root(compose->doc), *name, *object;
    const struct grid_resources *sum = &compose->resources;
    size_t i, max;

    for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
        yyjson_mut_obj_foreach(yyjson_mut_obj_get(root, parts[p].member), i, max, name, object)
        {
            parts[p].print(text_of(name), object, out);
        }
    }
    fprintf(out, "  reserves %s cores, %s of memory, %s of ssd, %s of hdd\n",
            cli_cores(sum->milli_cores), cli_bytes(sum->memory), cli_bytes(sum->ssd),
            cli_bytes(sum->hdd));
}
