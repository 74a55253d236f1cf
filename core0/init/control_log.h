/*
 * control_log.h - org.croft.core.GetLog: lines of a ring or of the kernel, once or followed.
 */
#pragma once

#include "lib/varlink.h"

void control_get_log(struct varlink_call *call, yyjson_val *params, void *data);
