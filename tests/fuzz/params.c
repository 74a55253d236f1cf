// Boot parameters: the same bytes as a command line and as a file, and the JSON made of them.
// sources: core0/init/params.c core0/init/params_value.c core0/init/params_json.c core0/init/unit_value.c
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "init/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct params params;
    yyjson_mut_doc *doc;

    params_init(&params);
    params_read_file(&params, PARAMS_SOURCE_FILE, (const char *)data, size);
    params_read_line(&params, (const char *)data, size);
    params_check(&params);
    doc = params_to_json(&params, "1", "0", 0);
    if (doc == NULL)
        abort();
    yyjson_mut_doc_free(doc);
    params_done(&params);
    return 0;
}
