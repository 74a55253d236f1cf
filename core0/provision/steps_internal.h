/*
 * steps_internal.h - functions of the step table that live in files of their own.
 */
#pragma once

#include "provision/steps.h"

/* steps_open.c: the sealed bytes, and what they hold. */
int fetch_check(struct deployment *deployment, const struct plan_item *item, struct error *err);
yyjson_mut_doc *open_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err);
int open_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
             struct error *err);

/* steps_start.c: what a container is started with, and how it fares. */
yyjson_mut_doc *start_ask(struct deployment *deployment, const struct plan_item *item,
                          struct error *err);
int depends_check(struct deployment *deployment, const struct plan_item *item, struct error *err);
int healthy_check(struct deployment *deployment, const struct plan_item *item, struct error *err);

/* steps_space.c: namespaces of the key-value server, and the ports by which they are reached. */
/* While a revision before this one runs, what both use keeps its size: it grows when nothing can fail any more. */
void step_grow_late(struct deployment *deployment, yyjson_mut_doc *doc);
/* What the specification wants of a namespace or a virtual disk, now. */
yyjson_mut_doc *space_parameters(struct deployment *deployment, const struct plan_item *item,
                                 struct error *err);
yyjson_mut_doc *disk_parameters(struct deployment *deployment, const struct plan_item *item,
                                struct error *err);
yyjson_mut_doc *space_ask(struct deployment *deployment, const struct plan_item *item,
                          struct error *err);
int space_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
              struct error *err);
/* Appends them to the ports of Expose. publish: not only for the reservation's own containers. */
void space_add_ports(const struct deployment *deployment, bool publish, yyjson_mut_doc *doc,
                     yyjson_mut_val *ports);

/* steps.c: the key of a named volume, and the parameters of a request to make it, which is noted to be kept. */
void volume_key(const struct deployment *deployment, const struct spec_volume *volume,
                char ret_key[STORE_KEY_MAX + 1]);
yyjson_mut_doc *volume_new(struct deployment *deployment, const struct spec_volume *volume,
                           struct error *err);

/* steps_disk.c: virtual disks. plug_ask's item is a mount of the service. */
yyjson_mut_doc *disk_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err);
yyjson_mut_doc *plug_ask(struct deployment *deployment, const struct plan_item *item,
                         struct error *err);
int plug_got(struct deployment *deployment, const struct plan_item *item, yyjson_val *reply,
             struct error *err);

/* True with provision.busy: another revision of this service, which is not wanted any more, is still there. Two must not write
 * one volume at once, whichever goes. */
bool step_leftover(const struct deployment *deployment, uint32_t revision, const char *service,
                   struct error *err);

/* A candidate's service that cannot run beside its predecessor: it writes a volume, or the update replaces everything. */
bool step_quiesces(const struct deployment *candidate, size_t service);

/* Copies a string member of a reply. -EBADMSG with provision.bad-answer. */
int reply_text(yyjson_val *reply, const char *member, char **ret_text, struct error *err);
