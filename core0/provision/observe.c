/*
 * observe.c - contd's Watch: the state of every container as it changes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "provision/deployment.h"
#include "provision/sweep.h"

#define AGAIN_US ((uint64_t)500 * 1000)

static void text(yyjson_val *object, const char *member, char *ret_text, size_t size)
{
    const char *value = yyjson_get_str(yyjson_obj_get(object, member));
    snprintf(ret_text, size, "%s", value != NULL ? value : "");
}

static void take(struct provision *provision, yyjson_val *list)
{
    size_t i, max, count = 0;
    yyjson_val *item;
    struct container *containers = calloc(yyjson_arr_size(list) + 1, sizeof(*containers));

    if (containers == NULL) {
        return;
    }
    yyjson_arr_foreach(list, i, max, item)
    {
        struct container *c = &containers[count++];
        c->reservation = yyjson_get_uint(yyjson_obj_get(item, "reservation"));
        c->revision = (uint32_t)yyjson_get_uint(yyjson_obj_get(item, "revision"));
        c->done = yyjson_get_bool(yyjson_obj_get(item, "done"));
        text(item, "service", c->service, sizeof(c->service));
        text(item, "state", c->state, sizeof(c->state));
        text(item, "health", c->health, sizeof(c->health));
        text(item, "reason", c->reason, sizeof(c->reason));
        text(item, "message", c->message, sizeof(c->message));
    }
    free(provision->containers);
    provision->containers = containers;
    provision->container_count = count;
    provision->have_containers = true;
}

static void on_change(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    struct provision *provision = data;

    if (parameters == NULL) {
        log_debug("contd is away: %s", err->message);
        loop_timer_in(provision->watch_timer, AGAIN_US);
        return;
    }
    take(provision, yyjson_obj_get(parameters, "containers"));
    for (struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        deployment_run(d);
    }
    if (provision->sweep != NULL) {
        sweep_look(provision->sweep);
    }
    if (!more) {
        loop_timer_in(provision->watch_timer, AGAIN_US);
    }
}

static void begin(struct loop_timer *timer, void *data)
{
    struct provision *provision = data;

    (void)timer;
    if (lane_call(&provision->watch_lane, MAKER_CONTAINER, "org.croft.container.Watch", NULL,
                  VARLINK_MORE, 0, on_change, provision) < 0) {
        loop_timer_in(provision->watch_timer, AGAIN_US);
    }
}

int observe_start(struct provision *provision)
{
    lane_init(&provision->watch_lane, provision->loop, provision->run);
    int ret = loop_timer_add(provision->loop, begin, provision, &provision->watch_timer);
    if (ret == 0) {
        loop_timer_in(provision->watch_timer, 0);
    }
    return ret;
}

void observe_stop(struct provision *provision)
{
    lane_done(&provision->watch_lane);
    loop_timer_del(provision->watch_timer);
    provision->watch_timer = NULL;
    free(provision->containers);
    provision->containers = NULL;
    provision->container_count = 0;
}
