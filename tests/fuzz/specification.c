// Any bytes as an opened specification: refused with a code, or within the limits that provd relies on.
// sources: core0/provision/spec.c core0/provision/spec_service.c core0/provision/spec_storage.c
// packages: mbedtls
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
    for (size_t i = 0; i < spec->volume_count; i++) {
        const struct spec_volume *volume = &spec->volumes[i];
        bool policy = volume->snapshot_every != 0;
        if (policy != (volume->snapshot_keep != 0) || (policy && volume->filesystem != NULL) ||
            volume->snapshot_keep > SPEC_SNAPSHOTS_MAX) {
            abort();
        }
    }
    for (size_t i = 0; i < spec->kv_count; i++) {
        if (spec->kv[i].password == NULL || spec->kv[i].published > 65535) {
            abort();
        }
    }
    spec_free(spec);
    return 0;
}
