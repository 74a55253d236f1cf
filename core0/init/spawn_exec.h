/*
 * spawn_exec.h - the arguments and the variables that a service's program gets.
 */
#pragma once

#include "init/service.h"

struct spawn_exec {
    char **env; /* ended by NULL, with room for more */
    size_t env_count;
    char **argv; /* ended by NULL; each word is owned */
};

/* Words of the environment that the unit does not say itself; see spawn.c. */
#define SPAWN_ENV_EXTRA 12

/* Fills env from Environment= and EnvironmentFile= (the file wins) and argv from ExecStart=, in which a word "$NAME" stands for
 * the words of that variable, none if it has none. service.environment, service.no-memory. *ret_exec is done with
 * spawn_exec_done() in every case. */
int spawn_exec_init(struct spawn_exec *ret_exec, const struct service *service, struct error *err);
void spawn_exec_done(struct spawn_exec *exec);

/* Reads "NAME=value" lines (a # begins a comment; a value is taken as it stands) behind what the list holds. -EINVAL with *err. */
int spawn_exec_read(const char *text, struct unit_list *list, struct error *err);
