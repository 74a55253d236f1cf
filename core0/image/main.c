/*
 * main.c - imaged: fetches verified images and mounts them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "lib/file.h"
#include "lib/json.h"

static const char *root = IMAGE_ROOT;
static const char *run = IMAGE_RUN;

/* croft.hub: hubs of the farm, asked before those of the reservation. */
static int read_hubs(struct images *images, const char *boot_path, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read(boot_path, (size_t)1 << 20, &text, &len);
    if (r < 0)
        return error_set(err, -r, "image.bad-boot", "is core0 running?", "%s cannot be read: %s",
                         boot_path, strerror(-r));
    yyjson_doc *doc = json_parse(text, len, (size_t)1 << 20, "image.bad-boot", err);
    if (doc == NULL)
        return -EINVAL;
    size_t index;
    size_t max;
    yyjson_val *hub;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "hub"), index, max, hub)
    {
        if (yyjson_is_str(hub) && images->own_hub_count < IMAGE_HUBS_MAX) {
            images->own_hubs[images->own_hub_count] = strdup(yyjson_get_str(hub));
            images->own_hub_count += images->own_hubs[images->own_hub_count] != NULL;
        }
    }
    yyjson_doc_free(doc);
    return 0;
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct images *images = calloc(1, sizeof(*images));
    if (images == NULL)
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    images->daemon = daemon;
    images->root = root;
    images->run = run;
    images->root_fd = -1;
    *ret_state = images;
    const struct http_client_options options = {.connections_max = IMAGE_FETCHES_MAX};
    int r = read_hubs(images, daemon_boot_path(daemon), err);
    if (r == 0 && (r = http_client_new(daemon_loop(daemon), &options, &images->http)) < 0)
        r = error_set(err, -r, "image.failed", "", "no HTTP client: %s", strerror(-r));
    if (r == 0)
        r = store_open(images, err);
    if (r == 0)
        mount_recover(images);
    return r;
}

int main(int argc, char **argv)
{
    static const struct daemon_option options[] = {
        {"--root", "DIR", "where images are kept (" IMAGE_ROOT ")", &root},
        {"--run", "DIR", "where they are mounted (" IMAGE_RUN ")", &run},
        {NULL, NULL, NULL, NULL},
    };
    static const struct daemon_spec spec = {
        .name = "imaged",
        .summary = "verified images: fetch, mount, remove",
        .interfaces = &image_interface,
        .interface_count = 1,
        .options = options,
        .socket_mode = 0666, /* methods have their own callers */
        .start = start,
    };
    return daemon_main(&spec, argc, argv);
}
