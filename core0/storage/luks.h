/*
 * luks.h - LUKS2 on a device, by the program cryptsetup. See docs/decisions/0107-virtual-disks.md for every option.
 *
 * Keys go to cryptsetup through a pipe: never as arguments, never into a file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define LUKS_KEY_SIZE 32
#define LUKS_HEADER_SIZE ((uint64_t)1 << 20) /* what comes before the data, bytes */

/* Codes storage.wrong-key, storage.failed. Answers 0 or -errno. */
int luks_format(const char *device, const uint8_t key[LUKS_KEY_SIZE], struct error *err);
/* The open disk is the device-mapper device `name`. -EACCES: the wrong key. */
int luks_open(const char *device, const char *name, const uint8_t key[LUKS_KEY_SIZE],
              struct error *err);
/* Takes over the new size of what lies below the open disk `name`. */
int luks_resize(const char *name, struct error *err);
