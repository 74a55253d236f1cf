/*
 * seccomp.c - see seccomp.h.
 */
#include "container/seccomp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "container/caps.h"

#define ARCH "amd64" /* Go's word, as the profile uses it */

unsigned seccomp_kernel(const char *release)
{
    char *end;
    unsigned long major = strtoul(release, &end, 10);
    unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;

    return end == release || major > 255 || minor > 255 ? 0 : (unsigned)(major << 8 | minor);
}

static bool has_arch(yyjson_val *arches)
{
    size_t i, max;
    yyjson_val *arch;

    yyjson_arr_foreach(arches, i, max, arch)
    {
        if (yyjson_equals_str(arch, ARCH))
            return true;
    }
    return false;
}

static bool has_cap(yyjson_val *name, uint64_t caps)
{
    int number = yyjson_is_str(name) ? caps_number(yyjson_get_str(name)) : -1;

    return number >= 0 && (caps >> number & 1) != 0;
}

/* moby profiles/seccomp/seccomp_linux.go: a rule is left out by any excluded architecture or capability, by an architecture
 * list without ours, by any capability that is missing, and by an older kernel. */
static bool rule_applies(yyjson_val *rule, uint64_t caps, unsigned kernel)
{
    yyjson_val *includes = yyjson_obj_get(rule, "includes"),
               *excludes = yyjson_obj_get(rule, "excludes");
    yyjson_val *arches = yyjson_obj_get(includes, "arches"), *cap;
    const char *kernel_min = yyjson_get_str(yyjson_obj_get(includes, "minKernel"));
    size_t i, max;

    if (has_arch(yyjson_obj_get(excludes, "arches")))
        return false;
    yyjson_arr_foreach(yyjson_obj_get(excludes, "caps"), i, max, cap)
    {
        if (has_cap(cap, caps))
            return false;
    }
    if (yyjson_arr_size(arches) > 0 && !has_arch(arches))
        return false;
    yyjson_arr_foreach(yyjson_obj_get(includes, "caps"), i, max, cap)
    {
        if (!has_cap(cap, caps))
            return false;
    }
    return kernel_min == NULL || kernel >= seccomp_kernel(kernel_min);
}

int seccomp_resolve(yyjson_val *profile, uint64_t caps, unsigned kernel, yyjson_mut_doc *doc,
                    yyjson_mut_val **ret_seccomp, struct error *err)
{
    static const char *const kept[] = {"names", "action", "errnoRet", "args"};
    yyjson_val *rules = yyjson_obj_get(profile, "syscalls"), *rule;
    yyjson_val *action = yyjson_obj_get(profile, "defaultAction");
    yyjson_val *errno_ret = yyjson_obj_get(profile, "defaultErrnoRet");
    size_t i, max;

    if (!yyjson_is_arr(rules) || !yyjson_is_str(action))
        return error_set(err, EINVAL, "container.bad-seccomp", NULL,
                         "the seccomp profile has no defaultAction or no syscalls");
    yyjson_mut_val *seccomp = yyjson_mut_obj(doc);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_val *arches = yyjson_mut_arr(doc);
    yyjson_mut_arr_add_str(doc, arches, "SCMP_ARCH_X86_64");
    yyjson_mut_obj_add_val(doc, seccomp, "defaultAction", yyjson_val_mut_copy(doc, action));
    if (errno_ret != NULL)
        yyjson_mut_obj_add_val(doc, seccomp, "defaultErrnoRet",
                               yyjson_val_mut_copy(doc, errno_ret));
    yyjson_mut_obj_add_val(doc, seccomp, "architectures", arches);
    yyjson_arr_foreach(rules, i, max, rule)
    {
        if (!rule_applies(rule, caps, kernel))
            continue;
        yyjson_mut_val *copy = yyjson_mut_arr_add_obj(doc, list);
        for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++) {
            yyjson_val *value = yyjson_obj_get(rule, kept[k]);

            if (value != NULL)
                yyjson_mut_obj_add_val(doc, copy, kept[k], yyjson_val_mut_copy(doc, value));
        }
    }
    if (!yyjson_mut_obj_add_val(doc, seccomp, "syscalls", list))
        return -ENOMEM;
    *ret_seccomp = seccomp;
    return 0;
}
