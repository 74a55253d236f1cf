/*
 * reclaim.c - see reclaim.h.
 */
#include "container/reclaim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container/contd.h"
#include "lib/file.h"
#include "lib/log.h"

#define STAT_MAX 4096
#define TIMEOUT_US                                                                                 \
    ((uint64_t)60 * 60 * 1000000) /* it may wait for a slow disk: nobody waits for it */

struct reclaim {
    struct loop *loop;
    const char *folder;
    struct loop_timer *timer;
    struct worker *worker;
};

uint64_t reclaim_dying(const char *stat)
{
    static const char name[] = "nr_dying_subsys_memory ";
    const char *at = strstr(stat, name);
    return at != NULL ? strtoull(at + sizeof(name) - 1, NULL, 10) : 0;
}

static uint64_t dying(const struct reclaim *reclaim)
{
    char path[CONTD_PATH_MAX];
    cleanup_free char *text = NULL;
    size_t len;

    snprintf(path, sizeof(path), "%s/cgroup.stat", reclaim->folder);
    return file_read(path, STAT_MAX, &text, &len) < 0 ? 0 : reclaim_dying(text);
}

/* In a child: reclaim may wait for a disk. -EAGAIN: there was not so much to be had, which is no error. */
static int work(void *data, struct error *err)
{
    const struct reclaim *reclaim = data;
    char path[CONTD_PATH_MAX], bytes[32];

    (void)err;
    snprintf(path, sizeof(path), "%s/memory.reclaim", reclaim->folder);
    snprintf(bytes, sizeof(bytes), "%zu", RECLAIM_BYTES);
    int ret = file_write_text(path, bytes);
    return ret == -EAGAIN ? 0 : ret;
}

static void done(int result, const struct error *err, void *data)
{
    struct reclaim *reclaim = data;

    (void)err;
    reclaim->worker = NULL;
    if (result < 0)
        log_warn("%s/memory.reclaim: %s", reclaim->folder, strerror(-result));
    loop_timer_in(reclaim->timer, RECLAIM_EVERY_US);
}

static void look(struct loop_timer *timer, void *data)
{
    struct reclaim *reclaim = data;
    struct error err = {0};

    if (dying(reclaim) <= RECLAIM_KEPT || worker_start(reclaim->loop, work, reclaim, TIMEOUT_US,
                                                       done, reclaim, &reclaim->worker, &err) < 0)
        loop_timer_in(timer, RECLAIM_EVERY_US);
    error_clear(&err);
}

int reclaim_start(struct loop *loop, const char *folder, struct reclaim **ret_reclaim)
{
    struct reclaim *reclaim = calloc(1, sizeof(*reclaim));

    if (reclaim == NULL)
        return -ENOMEM;
    *reclaim = (struct reclaim){.loop = loop, .folder = folder};
    int ret = loop_timer_add(loop, look, reclaim, &reclaim->timer);
    if (ret < 0) {
        free(reclaim);
        return ret;
    }
    loop_timer_in(reclaim->timer, RECLAIM_EVERY_US);
    *ret_reclaim = reclaim;
    return 0;
}
