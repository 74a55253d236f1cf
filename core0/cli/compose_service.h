/*
 * compose_service.h - what the converters of a service's keys share: one function per key, listed in the table of
 * compose_service.c.
 */
#pragma once

#include "cli/compose.h"

struct service_work {
    struct compose_context *context;
    yyjson_mut_val *file; /* the whole compose file */
    yyjson_mut_val *out;  /* the service object */
    struct error *err;
};

/* 0, or -errno with work->err set. The value is never NULL but for service_convert_deploy, which then gives the defaults. */
typedef int service_convert_fn(struct service_work *work, const char *key, yyjson_mut_val *value);

/* deploy.bad-compose and deploy.unsupported-key at services.SERVICE.KEY; both return what is to be returned. */
int service_bad(const struct service_work *work, const char *key, const char *why);
int service_unsupported(const struct service_work *work, const char *key, const char *member);
int service_copy_texts(struct service_work *work, const char *key, yyjson_mut_val *value,
                       yyjson_mut_val *list);
int service_add_duration(struct service_work *work, const char *key, yyjson_mut_val *value,
                         yyjson_mut_val *object, const char *member);
/* The member of the service's specification, made when it is not there yet. */
yyjson_mut_val *service_object(struct service_work *work, const char *name);

/* compose_plain.c */
service_convert_fn service_convert_user;
service_convert_fn service_convert_working_dir;
service_convert_fn service_convert_stop_signal;
service_convert_fn service_convert_read_only;
service_convert_fn service_convert_stop_grace_period;
service_convert_fn service_convert_words;
service_convert_fn service_convert_capabilities;
service_convert_fn service_convert_environment;
service_convert_fn service_convert_labels;
service_convert_fn service_convert_extra_hosts;
service_convert_fn service_convert_env_file;
service_convert_fn service_convert_image;

/* compose_ports.c */
service_convert_fn service_convert_ports;
service_convert_fn service_convert_networks;
service_convert_fn service_convert_depends_on;

/* compose_mounts.c */
service_convert_fn service_convert_tmpfs;
service_convert_fn service_convert_volumes;
service_convert_fn service_convert_files;

/* compose_limits.c */
service_convert_fn service_convert_healthcheck;
service_convert_fn service_convert_restart;
service_convert_fn service_convert_deploy;
service_convert_fn service_convert_croft;
