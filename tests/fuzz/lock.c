// A croft.lock that somebody wrote: a name is added to it, or it is refused and stays as it is.
// sources: core0/cli/image_lock.c
// packages: yyjson
#include "files.h"

#include "cli/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const hubs[] = {"http://hub"};
    struct error err = {0};
    const char *path = files_write("croft.lock", data, size);

    if (image_lock_write(path, "name", "00", hubs, 1, &err) < 0) {
        if (!error_is_set(&err))
            abort();
    } else if (image_lock_write(path, "name", "00", NULL, 0, &err) < 0) {
        abort(); /* what was written reads again */
    }
    return 0;
}
