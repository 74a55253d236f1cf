// Index, manifest, configuration and manifest.json of an image layout: the first byte says which reader.
#include <stdint.h>
#include <stdlib.h>

#include "lib/image/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct oci_manifest manifest;
    static struct oci_config config;
    static struct docker_manifest docker;
    struct oci_descriptor descriptor;
    struct error err = {0};
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    switch (data[0]) {
    case 'i':
        (void)oci_index_find(text, size - 1, "latest", "amd64", 0, &descriptor, &err);
        break;
    case 'p':
        (void)oci_index_find(text, size - 1, NULL, "amd64", 1, &descriptor, &err);
        break;
    case 'm':
        (void)oci_manifest_read(text, size - 1, &manifest, &err);
        break;
    case 'c':
        if (oci_config_read(text, size - 1, &config, &err) == 0)
            oci_config_done(&config);
        break;
    default:
        if (docker_manifest_read(text, size - 1, NULL, &docker, &err) == 0)
            docker_manifest_done(&docker);
    }
    return 0;
}
