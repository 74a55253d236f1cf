// Messages of services to core0 (sd_notify), of a service that any user's program may be.
// sources: $(filter-out core0/init/main.c,$(wildcard core0/init/*.c))
// packages: yyjson
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "init/core.h"
#include "init/notify_socket.h"
#include "init/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core core;
    static struct service service;

    if (core.loop == NULL) {
        core.root = "/nonexistent";
        if (loop_new(&core.loop) < 0)
            abort();
        strcpy(service.unit.name, "fuzz.service");
        if (service_init(&service, &core) < 0)
            abort();
        core.services = &service;
        core.service_count = core.service_room = 1;
    }
    if (size > 4096)
        return 0;
    service.state = size % 2 == 0 ? SERVICE_STARTING : SERVICE_RUNNING;
    notify_socket_handle(&service, (const char *)data, size);
    if (core.fact_count > CORE_FACTS_MAX)
        abort();
    return 0;
}
