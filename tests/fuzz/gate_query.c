// The target of a request to the gate.
// sources: core0/gate/query.c
#include <stdlib.h>
#include <string.h>

#include "gate/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"service", "arg", NULL};
    char *target = malloc(size + 1);
    struct query query;
    int64_t number = 5;
    bool flag = false;

    if (target == NULL)
        return 0;
    if (size > 0)
        memcpy(target, data, size);
    target[size] = '\0';
    if (query_parse(target, &query) == 0) {
        size_t total = strlen(query.path);

        for (size_t i = 0; i < query.count; i++) {
            if (query_get(&query, query.parameters[i].name) == NULL)
                abort();
            total += strlen(query.parameters[i].name) + strlen(query.parameters[i].value);
        }
        if (total > strlen(target) || query.count > QUERY_PARAMETERS_MAX)
            abort();
        (void)query_only(&query, names);
        if (query_get_number(&query, "arg", -3, 9, &number) >= 0 && (number < -3 || number > 9))
            abort();
        (void)query_get_flag(&query, "service", &flag);
    }
    query_done(&query);
    free(target);
    return 0;
}
