/*
 * media.h - boot media with a farm's parameters: a command line, the EFI program it is written into, a USB stick.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define MEDIA_LINE_MAX                                                                             \
    2047u /* bytes; beyond, x86 kernels do not boot (Documentation/x86/boot.rst) */
#define MEDIA_EFI_MAX ((size_t)1 << 30)
#define MEDIA_SETTINGS_MAX 32

/* What a medium's command line is made of. Texts belong to the caller. */
struct media_line {
    const char *base; /* the image's own words */
    uint64_t farm;
    uint64_t chain_id;
    const char *chain;                        /* endpoints as nodes reach them */
    const char *registry;                     /* 0x… */
    const char *settings[MEDIA_SETTINGS_MAX]; /* KEY=VALUE of docs/boot-parameters.md */
    size_t setting_count;
    const char *token; /* 64 digits; NULL: none */
};

/* media_line.c. Writes the line, or media.bad-parameter: a setting that is unknown, is another option's or holds what
 * boot loaders change; plain HTTP without runmode=dev; more than fits. */
int media_line_write(const struct media_line *line, char ret_text[MEDIA_LINE_MAX + 1],
                     struct error *err);

/* media_efi.c: where the command line lies in a unified kernel image (PE/COFF section .cmdline): its offset in the file
 * and its room. -EBADMSG: no such program. */
int media_efi_find(const void *data, size_t len, size_t *ret_offset, size_t *ret_room);

/* media_usb.c: a disk image with one EFI system partition (GPT, FAT32) that holds the program as EFI/BOOT/BOOTX64.EFI,
 * which firmware starts from removable media (UEFI 3.5.1.1). fd: a new regular file. 0, -EFBIG or -errno. */
int media_usb_write(int fd, const void *efi, size_t len, uint64_t *ret_size);
