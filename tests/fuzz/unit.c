// Service files, and the filter that an accepted one asks for.
// sources: core0/init/unit.c core0/init/unit_value.c core0/init/seccomp.c
#include <stdint.h>
#include <stdlib.h>

#include "init/seccomp.h"
#include "init/unit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sock_filter program[SECCOMP_PROGRAM_MAX];
    struct error err = {0};
    struct unit unit;
    size_t len = 0;

    /* Half of them as the file of an instance, in which specifiers are replaced. */
    if (unit_parse(size % 2 == 0 ? "fuzz" : "fuzz@one", (const char *)data, size, &unit, &err) ==
        0) {
        if (unit.exec_start.count == 0 ||
            seccomp_build(unit.system_calls.items, unit.system_calls.count, unit.system_calls_deny,
                          unit.system_call_errno, program, SECCOMP_PROGRAM_MAX, &len) < 0)
            abort(); /* what was accepted can be started */
    } else if (!error_is_set(&err)) {
        abort(); /* a refusal has a reason */
    }
    unit_done(&unit);
    return 0;
}
