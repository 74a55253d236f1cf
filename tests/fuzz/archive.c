// An archive of an image layout, packed or not, as `croft image convert` opens it: its members are found and read.
// sources: core0/cli/image_source.c core0/cli/image_stream.c
// packages: zstd zlib
#include "files.h"

#include "cli/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"index.json", "manifest.json", "blobs/sha256/a"};
    struct image_source *source;
    struct error err = {0};

    setenv("TMPDIR", "/dev/shm", 0);
    if (image_source_open(files_write("archive", data, size), true, &source, &err) < 0) {
        if (!error_is_set(&err))
            abort();
        return 0;
    }
    for (size_t i = 0; i < 3; i++) {
        struct error read_err = {0};
        char *text;
        size_t len;

        if (image_source_read(source, names[i], 65536, &text, &len, &read_err) == 0)
            free(text);
        else if (!error_is_set(&read_err))
            abort();
    }
    image_source_free(source);
    return 0;
}
