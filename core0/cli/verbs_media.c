/*
 * verbs_media.c - croft farm media: boot media of a farm, made of the image as it was built.
 *
 * The join token exists on the medium only: files that hold it are readable by their owner, and it is never printed.
 * Everything that can be refused is refused before the token is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/farm.h"
#include "cli/media.h"
#include "cli/settings.h"
#include "lib/crypto/hash.h"
#include "lib/eth/address.h"
#include "lib/file.h"

#define SECRET_MODE 0600
#define PUBLIC_MODE 0644

struct media {
    const struct cli *cli;
    struct grid grid;
    struct media_line line;
    struct farm_token token;
    char *efi; /* the program; the command line is written into it */
    size_t efi_len, offset, room;
    char base[MEDIA_LINE_MAX + 1], text[MEDIA_LINE_MAX + 1], shown[MEDIA_LINE_MAX + 1];
    const char *from, *output;
    uint64_t bytes;
};

typedef int media_form_fn(struct media *media, struct error *err);

static int cannot_write(struct error *err, int ret, const char *path)
{
    return error_set(err, -ret, "media.write-failed",
                     "croft farm show lists the token's address; revoke it if it is not to be used",
                     "%.200s cannot be written: %s", path, strerror(-ret));
}

static void patch(struct media *media)
{
    memset(media->efi + media->offset, 0, media->room);
    memcpy(media->efi + media->offset, media->text, strlen(media->text));
}

/* ---- forms ---- */

static int write_file(struct media *media, const char *name, const void *data, size_t len,
                      mode_t mode, struct error *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s%s%s", media->output, name[0] != '\0' ? "/" : "", name);
    int ret = file_write_atomic(path, data, len, mode);
    media->bytes += len;
    return ret < 0 ? cannot_write(err, ret, path) : 0;
}

static int form_efi(struct media *media, struct error *err)
{
    patch(media);
    return write_file(media, "", media->efi, media->efi_len, SECRET_MODE, err);
}

static int form_usb(struct media *media, struct error *err)
{
    char path[PATH_MAX];

    patch(media);
    snprintf(path, sizeof(path), "%s.part", media->output);
    (void)unlink(path);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, SECRET_MODE);
    int ret = fd < 0 ? -errno : media_usb_write(fd, media->efi, media->efi_len, &media->bytes);
    if (ret == 0 && (fsync(fd) < 0 || rename(path, media->output) < 0)) {
        ret = -errno;
    }
    if (ret < 0 && fd >= 0) {
        (void)unlink(path);
    }
    return ret < 0 ? cannot_write(err, ret, media->output) : 0;
}

static int copy_file(struct media *media, const char *name, struct error *err)
{
    cleanup_free char *data = NULL;
    size_t len;
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", media->from, name);
    int ret = file_read(path, MEDIA_EFI_MAX, &data, &len);
    if (ret < 0) {
        return error_set(err, -ret, "media.bad-image", "make builds it into build/image",
                         "%.200s cannot be read: %s", path, strerror(-ret));
    }
    return write_file(media, name, data, len, PUBLIC_MODE, err);
}

static int begin_pxe(struct media *media, struct error *err)
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%s/pxelinux.cfg", media->output);
    int ret = file_mkdirs(folder, 0755);
    if (ret < 0) {
        return cannot_write(err, ret, folder);
    }
    ret = copy_file(media, "vmlinuz", err);
    return ret < 0 ? ret : copy_file(media, "initramfs.cpio.zst", err);
}

/* What network boot asks for: iPXE and PXELINUX take kernel and initramfs with a line, UEFI's own the EFI program. */
static int form_pxe(struct media *media, struct error *err)
{
    char text[MEDIA_LINE_MAX + 256];

    /* initrd= names the initramfs to a kernel that firmware started (iPXE, "initrd"). */
    int len = snprintf(text, sizeof(text),
                       "#!ipxe\nkernel vmlinuz initrd=initramfs.cpio.zst %s\n"
                       "initrd initramfs.cpio.zst\nboot\n",
                       media->text);
    int ret = write_file(media, "boot.ipxe", text, (size_t)len, SECRET_MODE, err);
    if (ret == 0) {
        len = snprintf(text, sizeof(text),
                       "DEFAULT croft\nLABEL croft\n  KERNEL vmlinuz\n  INITRD initramfs.cpio.zst\n"
                       "  APPEND %s\n",
                       media->text);
        ret = write_file(media, "pxelinux.cfg/default", text, (size_t)len, SECRET_MODE, err);
    }
    crypto_wipe(text, sizeof(text));
    patch(media);
    return ret < 0 ? ret
                   : write_file(media, "croft.efi", media->efi, media->efi_len, SECRET_MODE, err);
}

static const struct {
    const char *name;
    media_form_fn *begin; /* what needs no token; may be NULL */
    media_form_fn *write;
    const char *next; /* what to do with it */
} forms[] = {
    {"efi", NULL, form_efi,
     "copy it to EFI/BOOT/BOOTX64.EFI of a FAT partition, or let UEFI HTTP boot fetch it"},
    {"usb", NULL, form_usb, "write it to a stick: dd if=FILE of=/dev/sdX bs=4M conv=fsync"},
    {"pxe", begin_pxe, form_pxe,
     "serve the folder in the farm's network only, readable by the server alone"},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

/* ---- what goes in ---- */

static int read_image(struct media *media, struct error *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/croft.efi", media->from);
    int ret = file_read(path, MEDIA_EFI_MAX, &media->efi, &media->efi_len);
    if (ret < 0) {
        return error_set(err, -ret, "media.bad-image", "make builds it into build/image",
                         "%.200s cannot be read: %s", path, strerror(-ret));
    }
    ret = media_efi_find(media->efi, media->efi_len, &media->offset, &media->room);
    if (ret < 0 || media->room <= MEDIA_LINE_MAX) {
        return error_set(err, EBADMSG, "media.bad-image", "make builds it into build/image",
                         "%.200s is no EFI program with room for a command line", path);
    }
    size_t len = strnlen(media->efi + media->offset, media->room);
    if (len > MEDIA_LINE_MAX) {
        return error_set(err, EBADMSG, "media.bad-image", "", "%.200s has too long a command line",
                         path);
    }
    memcpy(media->base, media->efi + media->offset, len);
    media->line.base = media->base;
    return 0;
}

static int read_line(struct media *media, char registry[ETH_ADDRESS_TEXT], struct error *err)
{
    static const char no_token[FARM_TOKEN_TEXT] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    struct media_line *line = &media->line;

    line->chain_id = media->grid.chain_id;
    eth_address_format(media->grid.registry, registry);
    line->registry = registry;
    for (const char *word;
         (word = cli_option_at(media->cli, "--set", line->setting_count)) != NULL;) {
        if (line->setting_count == MEDIA_SETTINGS_MAX) {
            return error_set(err, E2BIG, "cli.bad-option", "", "--set may be given %d times",
                             MEDIA_SETTINGS_MAX);
        }
        line->settings[line->setting_count++] = word;
    }
    int ret = media_line_write(line, media->shown, err); /* the one that may be shown */
    if (ret == 0 && !cli_flag(media->cli, "--no-token")) {
        line->token = no_token; /* with its length: does it fit? */
        ret = media_line_write(line, media->text, err);
    }
    return ret;
}

static int prepare(struct media *media, size_t *ret_form, char registry[ETH_ADDRESS_TEXT],
                   struct error *err)
{
    const char *form = cli_option(media->cli, "--form");

    media->from = cli_option(media->cli, "--from");
    media->output = cli_option(media->cli, "--output");
    *ret_form = 0;
    while (*ret_form < FORMS && (form == NULL || strcmp(form, forms[*ret_form].name) != 0)) {
        (*ret_form)++;
    }
    if (*ret_form == FORMS || media->from == NULL || media->output == NULL) {
        return error_set(err, EINVAL, "cli.wrong-use", media->cli->verb->example,
                         "farm media wants --form usb|pxe|efi, --from DIR and --output PATH");
    }
    int ret = read_image(media, err);
    return ret < 0 ? ret : read_line(media, registry, err);
}

static int make(struct media *media, uint64_t farm, size_t form, yyjson_mut_doc *doc,
                yyjson_mut_val *root, struct error *err)
{
    int ret = forms[form].begin != NULL ? forms[form].begin(media, err) : 0;

    if (ret == 0 && media->line.token != NULL) {
        ret = farm_token_make(media->cli, &media->grid, farm, &media->token, err);
        media->line.token = media->token.text;
    }
    if (ret == 0 && (ret = media_line_write(&media->line, media->text, err)) == 0) {
        ret = forms[form].write(media, err);
    }
    yyjson_mut_obj_add_uint(doc, root, "farm", farm);
    yyjson_mut_obj_add_str(doc, root, "form", forms[form].name);
    yyjson_mut_obj_add_strcpy(doc, root, "output", media->output);
    yyjson_mut_obj_add_uint(doc, root, "bytes", media->bytes);
    yyjson_mut_obj_add_strcpy(doc, root, "parameters", media->shown);
    if (media->line.token != NULL) {
        yyjson_mut_val *object = yyjson_mut_obj_add_obj(doc, root, "token");
        grid_json_address(doc, object, "address", media->token.address);
        yyjson_mut_obj_add_uint(doc, object, "uses", media->token.uses);
        yyjson_mut_obj_add_uint(doc, object, "expires", media->token.expires);
    }
    yyjson_mut_obj_add_str(doc, root, "next", forms[form].next);
    return ret;
}

int farm_media(struct cli *cli, struct error *err)
{
    struct media media = {.cli = cli};
    struct settings settings = {0};
    char registry[ETH_ADDRESS_TEXT];
    size_t form;
    yyjson_mut_val *root;

    int ret = cli_arg_uint(cli, 0, 1, UINT64_MAX, &media.line.farm, err);
    if (ret < 0 || (ret = settings_read(cli, &settings, err)) < 0) {
        return ret;
    }
    media.line.chain = settings.values[SETTING_CHAIN];
    unsigned flags = cli_flag(cli, "--no-token") ? 0 : GRID_KEY;
    if ((ret = grid_open(cli, flags, &media.grid, err)) == 0) {
        yyjson_mut_doc *doc = grid_json(&root);
        ret = prepare(&media, &form, registry, err);
        if (ret == 0) {
            ret = make(&media, media.line.farm, form, doc, root, err);
        }
        grid_close(&media.grid);
        if (ret == 0) {
            ret = cli_print_result(cli, doc);
        } else {
            yyjson_mut_doc_free(doc);
        }
    }
    settings_done(&settings);
    crypto_wipe(media.text, sizeof(media.text));
    crypto_wipe(&media.token, sizeof(media.token));
    if (media.efi != NULL) {
        crypto_wipe(media.efi + media.offset, media.room);
    }
    free(media.efi);
    return ret;
}

const struct verb_option farm_media_options[] = {
    {"--form", "usb|pxe|efi",
     "a disk image for a stick, a folder for network boot, one EFI program"},
    {"--from", "DIR", "where vmlinuz, initramfs.cpio.zst and croft.efi lie"},
    {"--output", "PATH", "what is written: a file, or pxe's folder"},
    {"--set", "KEY=VALUE", "a boot parameter, such as croft.relay=URL; may be repeated"},
    {"--no-token", NULL, "machines wait for croft farm approve instead"},
    FARM_TOKEN_OPTIONS,
    {NULL, NULL, NULL},
};
