// Targets of requests to a gate: what is taken is text inside the query's memory, and reads as a number, a flag or not.
// sources: core0/gate/query.c
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gate/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"service", "tail", "follow", NULL};
    static struct query query;
    int64_t number = 7;
    bool flag;
    char *target = strndup((const char *)data, size);

    if (target == NULL)
        abort();
    int ret = query_parse(target, &query);
    if (ret == 0) {
        if (query.path == NULL || query.count > QUERY_PARAMETERS_MAX)
            abort();
        for (size_t i = 0; i < query.count; i++) {
            if (strlen(query.parameters[i].name) + strlen(query.parameters[i].value) >
                strlen(target))
                abort();
        }
        if (query_get_number(&query, "tail", 0, 100, &number) == 1 && (number < 0 || number > 100))
            abort();
        (void)query_get_flag(&query, "follow", &flag);
        (void)query_only(&query, names);
    } else if (ret != -EINVAL) {
        abort();
    }
    query_done(&query);
    free(target);
    return 0;
}
