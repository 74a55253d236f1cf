/*
 * metrics.h - what the server counts: Prometheus text over HTTP, and INFO's text.
 */
#pragma once

#include <stddef.h>

#include "lib/error.h"
#include "server.h"

/* GET /metrics on options.metrics ("ADDR:PORT"), on the main thread's loop. */
int metrics_start(struct server *server, struct error *err);
/* INFO's lines; at most `size` bytes, returns how many. */
size_t metrics_info(const struct server *server, char *ret_text, size_t size);
