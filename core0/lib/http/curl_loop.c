/*
 * curl_loop.c - libcurl's multi interface on our loop.
 */
#include "lib/http/curl_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct curl_loop {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
    struct curl_job *jobs;
    int depth;  /* > 0: inside libcurl, or inside a done() */
    bool freed; /* curl_loop_free was called meanwhile */
};

static void unlink_job(struct curl_job *job)
{
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        job->owner->jobs = job->next;
    if (job->next != NULL)
        job->next->previous = job->previous;
}

static void destroy_job(struct curl_job *job)
{
    unlink_job(job);
    if (job->added)
        curl_multi_remove_handle(job->owner->multi, job->easy);
    curl_easy_cleanup(job->easy);
    job->easy = NULL;
    job->release(job);
}

static void destroy(struct curl_loop *curl)
{
    curl->depth++; /* closing connections calls on_socket */
    while (curl->jobs != NULL)
        destroy_job(curl->jobs);
    curl_multi_cleanup(curl->multi);
    loop_timer_del(curl->timer);
    free(curl);
}

/* What had to wait: jobs that were added or dropped while libcurl was running. */
static void settle(struct curl_loop *curl)
{
    bool again = true;
    while (again) {
        again = false;
        for (struct curl_job *job = curl->jobs; job != NULL; job = job->next) {
            if (job->dropped) {
                destroy_job(job);
                again = true;
                break;
            }
            if (!job->added) {
                job->added = true;
                curl_multi_add_handle(curl->multi, job->easy);
            }
        }
    }
}

static void leave(struct curl_loop *curl)
{
    if (--curl->depth > 0)
        return;
    if (curl->freed) {
        destroy(curl);
        return;
    }
    curl->depth++; /* removing and adding handles runs libcurl, too */
    settle(curl);
    curl->depth--;
}

static void deliver(struct curl_loop *curl)
{
    CURLMsg *message;
    int left;
    while (!curl->freed && (message = curl_multi_info_read(curl->multi, &left)) != NULL) {
        struct curl_job *job = NULL;
        CURLcode result = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        if (!job->dropped)
            job->done(job, result);
    }
}

static void act(struct curl_loop *curl, curl_socket_t fd, int events)
{
    int running;
    curl->depth++;
    curl_multi_socket_action(curl->multi, fd, events, &running);
    deliver(curl);
    leave(curl);
}

static void on_io(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    int what = 0;
    if ((events & EPOLLIN) != 0)
        what |= CURL_CSELECT_IN;
    if ((events & EPOLLOUT) != 0)
        what |= CURL_CSELECT_OUT;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        what |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
    act(data, fd, what);
}

static void on_timer(struct loop_timer *timer, void *data)
{
    (void)timer;
    act(data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *assigned)
{
    (void)easy;
    struct curl_loop *curl = data;
    struct loop_io *io = assigned;
    if (what == CURL_POLL_REMOVE) {
        loop_io_del(io);
        curl_multi_assign(curl->multi, fd, NULL);
        return 0;
    }
    uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= EPOLLOUT;
    if (io != NULL)
        return loop_io_set(io, events) < 0 ? -1 : 0;
    if (loop_io_add(curl->loop, fd, events, on_io, curl, &io) < 0)
        return -1;
    curl_multi_assign(curl->multi, fd, io);
    return 0;
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *data)
{
    (void)multi;
    struct curl_loop *curl = data;
    if (timeout_ms < 0)
        loop_timer_stop(curl->timer);
    else
        loop_timer_set(curl->timer, loop_clock() + (uint64_t)timeout_ms * 1000);
    return 0;
}

int curl_loop_new(struct loop *loop, unsigned connections_max, struct curl_loop **ret_curl)
{
    static bool initialized;
    if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    initialized = true;
    struct curl_loop *curl = calloc(1, sizeof(*curl));
    if (curl == NULL)
        return -ENOMEM;
    curl->loop = loop;
    int r = loop_timer_add(loop, on_timer, curl, &curl->timer);
    if (r < 0) {
        free(curl);
        return r;
    }
    curl->multi = curl_multi_init();
    if (curl->multi == NULL) {
        loop_timer_del(curl->timer);
        free(curl);
        return -ENOMEM;
    }
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)connections_max);
    *ret_curl = curl;
    return 0;
}

void curl_loop_free(struct curl_loop *curl)
{
    if (curl == NULL)
        return;
    for (struct curl_job *job = curl->jobs; job != NULL; job = job->next)
        job->dropped = true;
    if (curl->depth > 0)
        curl->freed = true;
    else
        destroy(curl);
}

struct loop *curl_loop_loop(struct curl_loop *curl)
{
    return curl->loop;
}

void curl_loop_add(struct curl_loop *curl, struct curl_job *job)
{
    job->owner = curl;
    job->previous = NULL;
    job->next = curl->jobs;
    if (curl->jobs != NULL)
        curl->jobs->previous = job;
    curl->jobs = job;
    job->added = job->dropped = false;
    curl_easy_setopt(job->easy, CURLOPT_PRIVATE, job);
    curl_loop_enter(curl);
    curl_loop_leave(curl);
}

void curl_loop_drop(struct curl_job *job)
{
    job->dropped = true;
    curl_loop_enter(job->owner);
    curl_loop_leave(job->owner);
}

void curl_loop_enter(struct curl_loop *curl)
{
    curl->depth++;
}

void curl_loop_leave(struct curl_loop *curl)
{
    leave(curl);
}
