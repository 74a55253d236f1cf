/*
 * spawn_exec.c - see spawn_exec.h. Before the fork, so that memory may be taken.
 */
#include "init/spawn_exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init/unit_value.h"
#include "lib/file.h"

#define ENVIRONMENT_FILE_MAX 16384u

static bool is_variable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool letter = (text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= 'a' && text[i] <= 'z') ||
                      text[i] == '_';

        if (!letter && (i == 0 || text[i] < '0' || text[i] > '9'))
            return false;
    }
    return len > 0;
}

int spawn_exec_read(const char *text, struct unit_list *list, struct error *err)
{
    for (unsigned line = 1; *text != '\0'; line++) {
        size_t len = strcspn(text, "\n");
        const char *equals = memchr(text, '=', len);

        if (len > 0 && text[0] != '#') {
            char *pair = strndup(text, len);
            int ret = pair == NULL ? -ENOMEM : 0;

            if (ret == 0 && (equals == NULL || !is_variable(text, (size_t)(equals - text))))
                ret = -EINVAL;
            if (ret == 0)
                ret = unit_list_add(list, pair);
            free(pair);
            if (ret < 0)
                return error_set(err, -ret, "service.environment", "a line is NAME=value",
                                 "line %u of the environment file is not valid", line);
        }
        text += len + (text[len] == '\n');
    }
    return 0;
}

static int read_file(const struct service *service, struct unit_list *list, struct error *err)
{
    const char *file = service->unit.environment_file;
    cleanup_free char *text = NULL;
    char path[512];
    size_t len;
    int ret;

    if (file == NULL)
        return 0;
    core_path(service->core, path, sizeof(path), file + (*file == '-'));
    ret = file_read(path, ENVIRONMENT_FILE_MAX, &text, &len);
    if (ret == -ENOENT && *file == '-')
        return 0;
    if (ret == 0 && memchr(text, '\0', len) != NULL)
        ret = -EINVAL;
    if (ret < 0)
        return error_set(err, -ret, "service.environment", NULL, "%s: %s cannot be read: %s",
                         service->unit.name, path, strerror(-ret));
    return spawn_exec_read(text, list, err);
}

/* The last one with the name; NULL: none. */
static const char *value_of(const struct unit_list *list, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = list->count; i-- > 0;)
        if (strncmp(list->items[i], name, len) == 0 && list->items[i][len] == '=')
            return list->items[i] + len + 1;
    return NULL;
}

/* A name twice in an environment is read differently by everybody. */
static bool is_overridden(const struct unit_list *list, size_t index)
{
    size_t len = strcspn(list->items[index], "=") + 1;

    for (size_t i = index + 1; i < list->count; i++)
        if (strncmp(list->items[i], list->items[index], len) == 0)
            return true;
    return false;
}

static int make_arguments(struct unit_list *words, const struct unit *unit,
                          const struct unit_list *variables)
{
    int ret = 0;

    for (size_t i = 0; i < unit->exec_start.count && ret == 0; i++) {
        const char *word = unit->exec_start.items[i];
        const char *value;

        if (i == 0 || word[0] != '$' || !is_variable(word + 1, strlen(word + 1))) {
            ret = unit_list_add(words, word);
            continue;
        }
        value = value_of(variables, word + 1);
        if (value != NULL && value[strspn(value, " \t")] != '\0')
            ret = unit_value_words(value, words);
    }
    return ret;
}

int spawn_exec_init(struct spawn_exec *ret_exec, const struct service *service, struct error *err)
{
    struct unit_list variables = {0};
    struct unit_list words = {0};
    int ret = 0;

    *ret_exec = (struct spawn_exec){0};
    for (size_t i = 0; i < service->unit.environment.count && ret == 0; i++)
        ret = unit_list_add(&variables, service->unit.environment.items[i]);
    if (ret == 0)
        ret = read_file(service, &variables, err);
    if (ret == 0)
        ret = make_arguments(&words, &service->unit, &variables);
    if (ret == 0) {
        ret_exec->env = calloc(variables.count + SPAWN_ENV_EXTRA, sizeof(char *));
        ret = ret_exec->env == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; i < variables.count && ret == 0; i++) {
        if (is_overridden(&variables, i))
            continue;
        ret_exec->env[ret_exec->env_count++] = variables.items[i];
        variables.items[i] = NULL;
    }
    if (ret == 0) {
        ret_exec->argv = words.items;
        words = (struct unit_list){0};
    }
    unit_list_done(&variables);
    unit_list_done(&words);
    if (ret < 0 && !error_is_set(err))
        error_set(err, -ret, "service.no-memory", NULL, "%s: no memory, or too many arguments",
                  service->unit.name);
    return ret;
}

void spawn_exec_done(struct spawn_exec *exec)
{
    for (size_t i = 0; i < exec->env_count; i++)
        free(exec->env[i]);
    for (size_t i = 0; exec->argv != NULL && exec->argv[i] != NULL; i++)
        free(exec->argv[i]);
    free(exec->env);
    free(exec->argv);
}
