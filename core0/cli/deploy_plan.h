/*
 * deploy_plan.h - what croft deploy says it will do, before it does it.
 */
#pragma once

#include <stdio.h>

#include "cli/compose.h"

/* Services, volumes, namespaces and the sums, one a line. Of keys and passwords it says only that there are some. */
void deploy_plan_print(const struct compose_result *compose, FILE *out);
