// Start's parameters: whatever is accepted can be written as a bundle.
// sources: core0/container/spec.c core0/container/spec_image.c core0/container/caps.c core0/container/bundle.c core0/container/seccomp.c
// packages: yyjson
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "container/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct container_spec spec;
    struct container_user user = {.home = "/", .groups = {0}, .group_count = 1};
    struct bundle bundle = {.spec = &spec,
                            .user = &user,
                            .hostname = "web",
                            .userns = "/u",
                            .netns = "/n",
                            .cgroup = "/c",
                            .etc = "/e",
                            .files = "/f"};
    struct error err = {0};
    char *json;
    size_t len;

    if (container_spec_parse((const char *)data, size, &spec, &err) == 0) {
        if (spec.argv == NULL || spec.argv[0] == NULL || spec.rootfs[0] != '/')
            abort();
        if (bundle_config(&bundle, &json, &len, &err) == 0)
            free(json);
    } else if (!error_is_set(&err)) {
        abort();
    }
    container_spec_done(&spec);
    return 0;
}
