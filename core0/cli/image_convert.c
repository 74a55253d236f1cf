/*
 * image_convert.c - croft image convert: from an OCI layout, an archive or a folder to an image in a hub's folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/image.h"
#include "lib/crypto/text.h"
#include "lib/file.h"
#include "lib/image/config.h"
#include "lib/image/oci.h"

#define HUBS_MAX 3 /* that a reservation may name */

struct convert {
    struct cli *cli;
    struct tree *tree;
    struct image_spool *spool;
    struct oci_config oci; /* doc NULL: none */
    const char *architecture;
    const char *os;
};

/* The machine's own, in the words of OCI (Go's). */
static const char *own_architecture(void)
{
    struct utsname name;
    if (uname(&name) == 0 && strcmp(name.machine, "aarch64") == 0) {
        return "arm64";
    }
    return "amd64";
}

static int apply_blob(struct convert *convert, struct image_source *source, const char *name,
                      const uint8_t *packed_wanted, const uint8_t *unpacked_wanted,
                      struct error *err)
{
    int fd;
    uint64_t offset;
    uint64_t size;
    int r = image_source_blob(source, name, &fd, &offset, &size, err);
    if (r < 0) {
        return r;
    }
    struct image_stream *stream = NULL;
    uint8_t packed[SHA256_SIZE];
    uint8_t unpacked[SHA256_SIZE];
    r = image_stream_new(fd, offset, size, &stream);
    r = r < 0 ? error_set(err, -r, "image.no-memory", "", "no memory")
              : image_layer_apply(convert->tree, convert->spool, stream, false, err);
    if (r == 0 && (r = image_stream_finish(stream, packed, unpacked)) < 0) {
        r = error_set(err, -r, "image.bad-archive", "", "%s cannot be unpacked: %s", name,
                      strerror(-r));
    }
    image_stream_free(stream);
    close(fd);
    if (r == 0 && ((packed_wanted != NULL && memcmp(packed, packed_wanted, SHA256_SIZE) != 0) ||
                   memcmp(unpacked, unpacked_wanted, SHA256_SIZE) != 0)) {
        r = error_set(err, EBADMSG, "image.digest-mismatch", "copy the image again",
                      "the layer %.90s is not what the manifest says", name);
    }
    return r;
}

static int take_config(struct convert *convert, const char *text, size_t len, size_t layers,
                       struct error *err)
{
    int r = oci_config_read(text, len, &convert->oci, err);
    if (r < 0) {
        return r;
    }
    convert->architecture = convert->oci.architecture;
    convert->os = convert->oci.os;
    if (strcmp(convert->os, "linux") != 0) {
        return error_set(err, EINVAL, "image.bad-layout", "",
                         "the image is for %.40s, not for linux", convert->os);
    }
    if (convert->oci.diff_count != layers) {
        return error_set(err, EBADMSG, "image.bad-layout", "",
                         "the image has %zu layers and names %zu", layers, convert->oci.diff_count);
    }
    return 0;
}

/* A blob that must have the digest; *ret_text: free(). */
static int read_checked(struct image_source *source, const struct oci_descriptor *descriptor,
                        char **ret_text, size_t *ret_len, struct error *err)
{
    char hex[2 * SHA256_SIZE + 1];
    char name[128];
    uint8_t hash[SHA256_SIZE];
    hex_encode(descriptor->digest, SHA256_SIZE, hex);
    snprintf(name, sizeof(name), "blobs/sha256/%s", hex);
    char *text;
    size_t len;
    int r = image_source_read(source, name, OCI_JSON_MAX, &text, &len, err);
    if (r < 0) {
        return r;
    }
    sha256(text, len, hash);
    if (len != descriptor->size || memcmp(hash, descriptor->digest, SHA256_SIZE) != 0) {
        free(text);
        return error_set(err, EBADMSG, "image.digest-mismatch", "copy the image again",
                         "%s is altered", name);
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

static int convert_oci(struct convert *convert, struct image_source *source, const char *tag,
                       struct error *err)
{
    cleanup_free char *index = NULL;
    cleanup_free char *text = NULL;
    size_t len;
    struct oci_descriptor descriptor;
    int r = image_source_read(source, "index.json", OCI_JSON_MAX, &index, &len, err);
    r = r == 0 ? oci_index_find(index, len, tag, own_architecture(), 0, &descriptor, err) : r;
    r = r == 0 ? read_checked(source, &descriptor, &text, &len, err) : r;
    for (int depth = 0; r == 0 && descriptor.is_index; depth++) {
        if (depth == 4) {
            return error_set(err, ELOOP, "image.bad-layout", "",
                             "the index names indexes without end");
        }
        r = oci_index_find(text, len, NULL, own_architecture(), 1, &descriptor, err);
        free(text);
        text = NULL;
        r = r == 0 ? read_checked(source, &descriptor, &text, &len, err) : r;
    }
    if (r < 0) {
        return r;
    }
    struct oci_manifest *manifest = calloc(1, sizeof(*manifest));
    if (manifest == NULL) {
        return error_set(err, ENOMEM, "image.no-memory", "", "no memory");
    }
    r = oci_manifest_read(text, len, manifest, err);
    cleanup_free char *config = NULL;
    r = r == 0 ? read_checked(source, &manifest->config, &config, &len, err) : r;
    r = r == 0 ? take_config(convert, config, len, manifest->layer_count, err) : r;
    for (size_t i = 0; r == 0 && i < manifest->layer_count; i++) {
        char hex[2 * SHA256_SIZE + 1];
        char name[128];
        hex_encode(manifest->layers[i].digest, SHA256_SIZE, hex);
        snprintf(name, sizeof(name), "blobs/sha256/%s", hex);
        cli_progress(convert->cli, "layer %zu of %zu", i + 1, manifest->layer_count);
        r = apply_blob(convert, source, name, manifest->layers[i].digest, convert->oci.diff_ids[i],
                       err);
    }
    free(manifest);
    return r;
}

static int convert_docker(struct convert *convert, struct image_source *source, const char *tag,
                          struct error *err)
{
    cleanup_free char *text = NULL;
    cleanup_free char *config = NULL;
    size_t len;
    struct docker_manifest manifest = {0};
    int r = image_source_read(source, "manifest.json", OCI_JSON_MAX, &text, &len, err);
    r = r == 0 ? docker_manifest_read(text, len, tag, &manifest, err) : r;
    if (r < 0) {
        return r;
    }
    r = image_source_read(source, manifest.config, OCI_JSON_MAX, &config, &len, err);
    r = r == 0 ? take_config(convert, config, len, manifest.layer_count, err) : r;
    for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
        cli_progress(convert->cli, "layer %zu of %zu", i + 1, manifest.layer_count);
        r = apply_blob(convert, source, manifest.layers[i], NULL, convert->oci.diff_ids[i], err);
    }
    docker_manifest_done(&manifest);
    return r;
}

static int convert_rootfs(struct convert *convert, const char *path, struct error *err)
{
    struct stat st;
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return error_set(err, errno, "image.not-found", "", "%s: %s", path, strerror(errno));
    }
    convert->architecture = own_architecture();
    convert->os = "linux";
    if (S_ISDIR(st.st_mode)) {
        return image_folder_apply(convert->tree, convert->spool, path, err);
    }
    struct image_stream *stream = NULL;
    int r = image_stream_new(fd, 0, (uint64_t)st.st_size, &stream);
    r = r < 0 ? error_set(err, -r, "image.no-memory", "", "no memory")
              : image_layer_apply(convert->tree, convert->spool, stream, true, err);
    image_stream_free(stream);
    return r;
}

/* FILE[:TAG]; a name with a colon in it is taken whole when such a file exists. *ret_path: free(). */
static int split_tag(const char *rest, char **ret_path, const char **ret_tag)
{
    *ret_tag = NULL;
    *ret_path = strdup(rest);
    if (*ret_path == NULL) {
        return -ENOMEM;
    }
    /* The tag may hold a colon itself (docker's name:tag): the longest path that exists counts. */
    for (char *colon = *ret_path + strlen(*ret_path); access(*ret_path, F_OK) != 0;) {
        char *next = memrchr(*ret_path, ':', (size_t)(colon - *ret_path));
        if (next == NULL) {
            break;
        }
        if (colon[0] == '\0' && colon != *ret_path + strlen(rest)) {
            *colon = ':';
        }
        *next = '\0';
        *ret_tag = next + 1;
        colon = next;
    }
    return 0;
}

static int convert_source(struct convert *convert, const char *text, struct error *err)
{
    static const struct form {
        const char *prefix;
        bool archive;
        int (*run)(struct convert *, struct image_source *, const char *, struct error *);
    } forms[] = {
        {"oci:", false, convert_oci},
        {"oci-archive:", true, convert_oci},
        {"docker-archive:", true, convert_docker},
    };
    if (strncmp(text, "rootfs:", 7) == 0) {
        return convert_rootfs(convert, text + 7, err);
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        size_t len = strlen(forms[i].prefix);
        if (strncmp(text, forms[i].prefix, len) != 0) {
            continue;
        }
        cleanup_free char *path = NULL;
        const char *tag;
        struct image_source *source = NULL;
        int r = split_tag(text + len, &path, &tag) < 0
                    ? error_set(err, ENOMEM, "image.no-memory", "", "no memory")
                    : 0;
        /* `path` is freed by its attribute, which the analyzer does not follow.
         * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        r = r == 0 ? image_source_open(path, forms[i].archive, &source, err) : r;
        r = r == 0 ? forms[i].run(convert, source, tag, err) : r;
        image_source_free(source);
        return r;
    }
    return error_set(
        err, EINVAL, "cli.wrong-use",
        "oci:DIR:TAG, oci-archive:FILE[:TAG], docker-archive:FILE[:TAG], rootfs:DIR or rootfs:TAR",
        "'%.120s' is no source of an image", text);
}

static int finish(struct convert *convert, char id[IMAGE_ID_TEXT], struct image_totals *ret_totals,
                  struct error *err)
{
    struct buffer metadata;
    struct buffer config;
    uint8_t digest[VERITY_DIGEST_SIZE];
    char hex[VERITY_DIGEST_TEXT];
    buffer_init(&metadata, (size_t)512 << 20);
    buffer_init(&config, IMAGE_CONFIG_MAX);
    int r = image_composefs(convert->tree, &metadata, digest, err);
    if (r == 0) {
        r = image_config_build(convert->oci.doc != NULL ? convert->oci.config : NULL,
                               convert->architecture, convert->os, digest, metadata.len, &config,
                               err);
    }
    if (r == 0) {
        hex_encode(digest, sizeof(digest), hex);
        image_id(config.data, config.len, id);
        r = image_spool_publish(convert->spool, convert->tree, &metadata, hex, &config, id,
                                ret_totals, err);
    }
    buffer_done(&metadata);
    buffer_done(&config);
    return r;
}

static int write_lock(struct cli *cli, const char *id, struct error *err)
{
    const char *hubs[HUBS_MAX];
    size_t count = 0;
    const char *name = cli_option(cli, "--name");
    const char *lock = cli_option(cli, "--lock");
    while (count < HUBS_MAX && (hubs[count] = cli_option_at(cli, "--hub", count)) != NULL) {
        count++;
    }
    if (name == NULL) {
        return 0;
    }
    return image_lock_write(lock != NULL ? lock : "croft.lock", name, id, hubs, count, err);
}

int image_run_convert(struct cli *cli, struct error *err)
{
    struct convert convert = {.cli = cli};
    struct image_totals totals;
    char id[IMAGE_ID_TEXT];
    const char *output = cli_option(cli, "--output");
    if (output == NULL) {
        return error_set(err, EINVAL, "cli.wrong-use", cli->verb->example,
                         "--output DIR is missing");
    }
    umask(022); /* a hub's files are for a web server to read */
    int r = tree_new(&convert.tree) < 0 ? error_set(err, ENOMEM, "image.no-memory", "", "no memory")
                                        : 0;
    r = r == 0 ? image_spool_new(output, &convert.spool, err) : r;
    r = r == 0 ? convert_source(&convert, cli->args[0], err) : r;
    r = r == 0 ? finish(&convert, id, &totals, err) : r;
    r = r == 0 ? write_lock(cli, id, err) : r;
    image_spool_free(convert.spool);
    tree_free(convert.tree);
    if (convert.oci.doc != NULL) {
        oci_config_done(&convert.oci);
    }
    if (r < 0) {
        return r;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_strcpy(doc, root, "id", id);
    yyjson_mut_obj_add_uint(doc, root, "objects", totals.objects);
    yyjson_mut_obj_add_uint(doc, root, "new_objects", totals.new_objects);
    yyjson_mut_obj_add_uint(doc, root, "bytes", totals.bytes);
    return cli_print_result(cli, doc);
}
