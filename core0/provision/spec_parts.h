/*
 * spec_parts.h - what the readers of a specification's parts share; see spec.h for what they fill.
 *
 * Each returns 0, or -errno with *err set.
 */
#pragma once

#include "lib/json.h"
#include "provision/spec.h"

#define SPEC_BAD "provision.bad-specification"
#define SPEC_HINT "deploy again with the same version of croft as the node runs"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Sets provision.bad-specification and returns what is to be returned. */
int spec_bad(struct error *err, const char *what, const char *why);
/* Names become parts of paths, interface names and DNS labels: nothing else is let in. */
bool spec_name_ok(const char *name);
/* The text of a string without NUL inside; NULL: no such. */
const char *spec_text(yyjson_val *value);

/* spec_storage.c */
int spec_read_volumes(struct spec *spec, yyjson_val *volumes, struct error *err);
int spec_read_kv(struct spec *spec, yyjson_val *spaces, struct error *err);

/* spec_service.c: after images, networks and volumes, which services name. Adds cores and memory to *sum. */
int spec_read_services(struct spec *spec, yyjson_val *services, yyjson_val *configs,
                       yyjson_val *secrets, struct resources *sum, struct error *err);
