/*
 * tables.h - the verbs of every noun, in the order of help.
 */
#pragma once

#include "cli/verbs.h"

extern const struct verb_table verbs_farm;        /* verbs_farm.c */
extern const struct verb_table verbs_node;        /* verbs_node.c */
extern const struct verb_table verbs_image;       /* image_verbs.c */
extern const struct verb_table verbs_deploy;      /* deploy.c */
extern const struct verb_table verbs_reservation; /* verbs_reservation.c */
extern const struct verb_table verbs_gate;        /* verbs_gate.c: logs, exec */
extern const struct verb_table verbs_disk;        /* verbs_disk.c */
extern const struct verb_table verbs_volume;      /* verbs_volume.c */
extern const struct verb_table verbs_kv;          /* verbs_kv.c */
extern const struct verb_table verbs_run;         /* verbs_run.c: status, relay */
