/*
 * image_verbs.c - the table of `croft image`.
 */
#include "cli/image.h"
#include "cli/tables.h"

static const struct verb_option convert_options[] = {
    {"--output", "DIR", "the hub's folder; other files in it stay"},
    {"--name", "NAME", "write NAME into croft.lock"},
    {"--hub", "URL", "where nodes find it, for croft.lock; up to three"},
    {"--lock", "FILE", "instead of croft.lock in this folder"},
    {NULL, NULL, NULL},
};
static const struct verb_option push_options[] = {
    {"--from", "URL|DIR", "the hub that has it"},
    {"--to", "URL|DIR", "the hub that gets it; a web server must take PUT"},
    {NULL, NULL, NULL},
};
static const struct verb_option hub_options[] = {
    {"--hub", "URL|DIR", "the hub that has it"},
    {NULL, NULL, NULL},
};

static const struct verb verbs[] = {
    {"image", "convert", "SOURCE", "make an image from an OCI layout, an archive or a folder",
     "croft image convert oci:layout:nginx --output hub --name nginx --hub http://192.0.2.1:8000",
     convert_options, 1, 1, false, image_run_convert},
    {"image", "push", "ID", "copy what is missing to another hub",
     "croft image push ID --from hub --to /srv/hub", push_options, 1, 1, false, image_run_push},
    {"image", "show", "ID", "print an image's configuration", "croft image show ID --hub hub",
     hub_options, 1, 1, false, image_run_show},
    {"image", "verify", "ID", "recompute every digest of an image",
     "croft image verify ID --hub http://192.0.2.1:8000", hub_options, 1, 1, false,
     image_run_verify},
};

const struct verb_table verbs_image = {verbs, sizeof(verbs) / sizeof(verbs[0])};
