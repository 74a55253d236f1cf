// Any bytes as a compose file: refused with a sentence, or a specification that the node's own parser takes.
// sources: core0/cli/compose.c core0/cli/compose_service.c core0/cli/compose_plain.c core0/cli/compose_ports.c core0/cli/compose_mounts.c core0/cli/compose_limits.c core0/cli/compose_values.c core0/cli/compose_yaml.c core0/cli/compose_storage.c core0/provision/spec.c core0/provision/spec_service.c core0/provision/spec_storage.c
// packages: libyaml mbedtls
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose.h"
#include "lib/json.h"
#include "provision/spec.h"

static const char *variable(const char *name, void *data)
{
    (void)data;
    return strcmp(name, "SET") == 0 ? "value" : NULL;
}

static void check(yyjson_mut_doc *doc)
{
    struct buffer canonical;
    struct spec *spec;
    struct error err = {0};
    char *text = yyjson_mut_write(doc, 0, NULL);
    yyjson_doc *read = text != NULL ? yyjson_read(text, strlen(text), 0) : NULL;

    buffer_init(&canonical, 0);
    if (read != NULL && json_canonical(yyjson_doc_get_root(read), &canonical) == 0 &&
        spec_parse((const char *)canonical.data, canonical.len, &spec, &err) == 0) {
        spec_free(spec);
    }
    buffer_done(&canonical);
    yyjson_doc_free(read);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t tenant_key[32] = {1};
    struct compose_options options = {.path = "nowhere/compose.yml",
                                      .project = "p",
                                      .environment = {.get = variable},
                                      .tenant_key = tenant_key};
    struct compose_result result;
    struct error err = {0};
    yyjson_mut_doc *file;

    if (size > 16384) {
        return 0;
    }
    if (compose_load((const char *)data, size, &options.environment, &file, &err) < 0) {
        if (!error_is_set(&err)) {
            abort();
        }
        return 0;
    }
    if (compose_convert(yyjson_mut_doc_get_root(file), &options, &result, &err) == 0) {
        check(result.doc);
        yyjson_mut_doc_free(result.doc);
    } else if (!error_is_set(&err)) {
        abort();
    }
    yyjson_mut_doc_free(file);
    return 0;
}
