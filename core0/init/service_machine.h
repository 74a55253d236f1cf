/*
 * service_machine.h - what service.c (the table) and service_orders.c share.
 */
#pragma once

#include "init/service.h"

/* Gives the event to the row of the service's state. */
void service_event(struct service *service, enum service_event event);
/* Looks, at the end of the turn, who may start or stop now. */
void service_settle_later(struct core *core);
/* A process of it runs, or what it left behind is being killed. */
bool service_is_active(const struct service *service);
bool service_condition_holds(const struct service *service);
/* What it still waits for; NULL: it may start. */
const struct service *service_waits_for(const struct service *service);
