// instance.json, state.json and start.json of a container, parted by NUL bytes, as contd finds them when it starts.
// sources: core0/container/store.c core0/container/spec.c core0/container/spec_image.c core0/container/caps.c
// packages: yyjson
#include "files.h"

#include "container/contd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"1-1-web/instance.json", "1-1-web/state.json",
                                        "1-1-web/start.json"};
    struct instance_key key;
    struct contd contd = {0};
    struct instance inst = {.contd = &contd};

    mkdir(files_path("1-1-web"), 0700);
    contd.opt.run = files_folder;
    if (store_key_make(1, 1, "web", &inst.key) < 0)
        abort();
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *nul = size > 0 ? memchr(data, '\0', size) : NULL;
        size_t len = nul != NULL ? (size_t)(nul - data) : size;

        files_write(names[i], data, len);
        /* A name of an instance, too: only the one way to write it counts. */
        char *text = strndup((const char *)data, len);
        if (text != NULL && store_key(text, &key) == 0 && strcmp(key.name, text) != 0)
            abort();
        free(text);
        data += nul != NULL ? len + 1 : len;
        size -= nul != NULL ? len + 1 : len;
    }
    if (store_load(&inst) == 0) {
        if (inst.uid_base == 0 || inst.uid_count == 0)
            abort();
        container_spec_done(&inst.spec);
        free(inst.start);
    }
    return 0;
}
