/*
 * method.c - the table of method and role, which is all that a caller can reach.
 */
#include <string.h>

#include "gate.h"

static const char *const logs_parameters[] = {"service", "revision", "tail", "since",
                                              "after",   "follow",   NULL};
static const char *const exec_parameters[] = {
    "service", "revision", "tty", "rows", "columns", "term", "user", "workdir", "arg", "env", NULL};
static const char *const node_log_parameters[] = {"service", "tail", "after", "follow", NULL};
static const char *const none[] = {NULL};

static const struct gate_method methods[] = {
    {"logs", "GET", "/v1/logs", ROLE_TENANT, true, logs_parameters, logs_handle},
    {"exec", "GET", "/v1/exec", ROLE_TENANT, true, exec_parameters, exec_handle},
    {"status", "GET", "/v1/status", ROLE_TENANT, false, none, status_handle},
    {"restart", "POST", "/v1/restart", ROLE_TENANT, true, none, restart_handle},
    {"node", "GET", "/v1/node", ROLE_FARMER, false, none, node_handle},
    {"node-log", "GET", "/v1/node/log", ROLE_FARMER, false, node_log_parameters, node_log_handle},
};

const struct gate_method *method_find(const char *http, const char *path, bool *ret_known_path)
{
    *ret_known_path = false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].path, path) != 0)
            continue;
        *ret_known_path = true;
        if (strcmp(methods[i].http, http) == 0)
            return &methods[i];
    }
    return NULL;
}
