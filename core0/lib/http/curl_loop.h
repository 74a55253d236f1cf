/*
 * curl_loop.h - libcurl's multi interface driven by our loop; for the files of this folder only.
 *
 * libcurl forbids most of its calls from inside its own callbacks. So a job that is dropped there lives on (silent) until
 * libcurl has returned, and one that is added there waits as long.
 */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>

#include "lib/loop.h"

struct curl_loop;

struct curl_job {
    CURL *easy;                                          /* CURLOPT_PRIVATE is set to the job */
    void (*done)(struct curl_job *job, CURLcode result); /* outside of libcurl; once */
    void (*release)(struct curl_job *job); /* frees what holds the job; easy is gone already */
    bool dropped;                          /* libcurl's callbacks must do nothing and abort */
    /* private */
    struct curl_loop *owner;
    struct curl_job *next, *previous;
    bool added;
};

int curl_loop_new(struct loop *loop, unsigned connections_max, struct curl_loop **ret_curl);
void curl_loop_free(struct curl_loop *curl); /* drops every job */
struct loop *curl_loop_loop(struct curl_loop *curl);

void curl_loop_add(struct curl_loop *curl, struct curl_job *job);
void curl_loop_drop(struct curl_job *job);

/* In a callback of libcurl that runs code of others: */
void curl_loop_enter(struct curl_loop *curl);
void curl_loop_leave(struct curl_loop *curl);
