// Any bytes as an opened specification: refused with a code, or within the limits that provd relies on.
// sources: core0/provision/spec.c
#include <stdint.h>
#include <stdlib.h>

#include "provision/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spec *spec;
    struct error err = {0};

    if (spec_parse((const char *)data, size, &spec, &err) < 0) {
        if (!error_is_set(&err)) {
            abort();
        }
        return 0;
    }
    if (spec->service_count == 0 || spec->service_count > SPEC_SERVICES_MAX) {
        abort();
    }
    for (size_t i = 0; i < spec->service_count; i++) {
        const struct spec_service *service = &spec->services[spec->order[i]];
        if (service->image >= spec->image_count || service->depend_count > SPEC_DEPENDS_MAX) {
            abort();
        }
        for (size_t m = 0; m < service->mount_count; m++) {
            if (service->mounts[m].volume >= spec->volume_count) {
                abort();
            }
        }
    }
    spec_free(spec);
    return 0;
}
