/*
 * volume_parts.h - what the files about volumes share.
 */
#pragma once

#include "storage.h"

/* Finds the volume of that key. storage.bad-key, storage.not-found, storage.failed. */
int volume_get(const struct storage *storage, const char *key, struct volume *ret_volume,
               struct error *err);
/* Opens its root folder, or -errno. */
int volume_open(const struct volume *volume);
/* Its name on disk: the last part of its path. */
const char *volume_name(const struct volume *volume);
/* Makes its quota group follow size, form and number of snapshots. */
int volume_set_limit(const struct volume *volume);
/* Writes the description to the root folder open as fd, durably. */
int volume_describe(int fd, const struct volume *volume);
/* storage.failed or storage.disk-failed, unless an error is set already; returns r. */
int volume_fail(struct error *err, const char *key, int r);
