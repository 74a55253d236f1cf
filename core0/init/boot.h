/*
 * boot.h - from the kernel's hand to the first service, as a short list of steps.
 */
#pragma once

#include "init/core.h"

/*
 * Runs the steps. A step that fails is told and does not stop the others: a machine that is half up can say what is
 * wrong with it. arguments and environment are what the kernel gave to init.
 */
void boot_run(struct core *core, char *const *arguments, char *const *environment);
