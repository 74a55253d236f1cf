/*
 * image_stream.c - a layer's bytes, unpacked and hashed while they are read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/image.h"

#define CHUNK ((size_t)1 << 17)

enum packing { PACKING_UNKNOWN, PACKING_NONE, PACKING_GZIP, PACKING_ZSTD };

struct image_stream {
    int fd;
    uint64_t offset;
    uint64_t left;
    enum packing packing;
    bool input_ended;
    bool between; /* no frame or member is open: an end of input is a proper end */
    struct sha256 packed;
    struct sha256 unpacked;
    uint8_t in[CHUNK];
    size_t in_at;
    size_t in_len;
    z_stream gzip;
    ZSTD_DCtx *zstd;
};

int image_stream_new(int fd, uint64_t offset, uint64_t size, struct image_stream **ret_stream)
{
    struct image_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return -ENOMEM;
    }
    stream->fd = fd;
    stream->offset = offset;
    stream->left = size;
    stream->between = true;
    sha256_init(&stream->packed);
    sha256_init(&stream->unpacked);
    *ret_stream = stream;
    return 0;
}

void image_stream_free(struct image_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (stream->packing == PACKING_GZIP) {
        inflateEnd(&stream->gzip);
    }
    ZSTD_freeDCtx(stream->zstd);
    free(stream);
}

/* Makes sure that input is at hand. 1: it is, 0: the end, -errno. */
static int fill(struct image_stream *stream)
{
    if (stream->in_at < stream->in_len) {
        return 1;
    }
    stream->in_at = 0;
    stream->in_len = 0;
    /* Four bytes at least, so that the kind of packing can be told. */
    while (stream->left > 0 && stream->in_len < 4) {
        size_t room = CHUNK - stream->in_len;
        size_t want = stream->left < room ? (size_t)stream->left : room;
        ssize_t n = pread(stream->fd, stream->in + stream->in_len, want, (off_t)stream->offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO; /* shorter than it was said to be */
        }
        sha256_update(&stream->packed, stream->in + stream->in_len, (size_t)n);
        stream->in_len += (size_t)n;
        stream->offset += (uint64_t)n;
        stream->left -= (uint64_t)n;
    }
    return stream->in_len > 0 ? 1 : 0;
}

static int detect(struct image_stream *stream)
{
    static const uint8_t gzip_magic[] = {0x1f, 0x8b};
    static const uint8_t zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};
    if (stream->in_len >= 2 && memcmp(stream->in, gzip_magic, 2) == 0) {
        if (inflateInit2(&stream->gzip, 15 + 16) != Z_OK) {
            return -ENOMEM;
        }
        stream->packing = PACKING_GZIP;
    } else if (stream->in_len >= 4 && memcmp(stream->in, zstd_magic, 4) == 0) {
        stream->zstd = ZSTD_createDCtx();
        if (stream->zstd == NULL) {
            return -ENOMEM;
        }
        stream->packing = PACKING_ZSTD;
    } else {
        stream->packing = PACKING_NONE;
    }
    return 0;
}

static ssize_t unpack_gzip(struct image_stream *stream, uint8_t *data, size_t len)
{
    z_stream *z = &stream->gzip;
    z->next_in = stream->in + stream->in_at;
    z->avail_in = (uInt)(stream->in_len - stream->in_at);
    z->next_out = data;
    z->avail_out = (uInt)(len > CHUNK ? CHUNK : len);
    size_t room = z->avail_out;
    int r = inflate(z, Z_NO_FLUSH);
    stream->in_at = stream->in_len - z->avail_in;
    stream->between = r == Z_STREAM_END;
    if (r == Z_STREAM_END &&
        inflateReset(z) != Z_OK) { /* several members follow one another (RFC 1952) */
        return -EBADMSG;
    }
    if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
        return -EBADMSG;
    }
    return (ssize_t)(room - z->avail_out);
}

static ssize_t unpack_zstd(struct image_stream *stream, uint8_t *data, size_t len)
{
    ZSTD_inBuffer in = {stream->in, stream->in_len, stream->in_at};
    ZSTD_outBuffer out = {data, len, 0};
    size_t r = ZSTD_decompressStream(stream->zstd, &out, &in);
    if (ZSTD_isError(r)) {
        return -EBADMSG;
    }
    stream->between = r == 0;
    stream->in_at = in.pos;
    return (ssize_t)out.pos;
}

ssize_t image_stream_read(void *source, void *data, size_t len)
{
    struct image_stream *stream = source;
    for (;;) {
        int r = fill(stream);
        if (r < 0) {
            return r;
        }
        if (r == 0 && stream->between) {
            return 0;
        }
        if (r == 0) {
            /* The last bytes may still be inside the decoder: it is asked once more. */
            if (stream->input_ended) {
                return -EBADMSG;
            }
            stream->input_ended = true;
        }
        if (stream->packing == PACKING_UNKNOWN && (r = detect(stream)) < 0) {
            return r;
        }
        ssize_t n;
        if (stream->packing == PACKING_GZIP) {
            n = unpack_gzip(stream, data, len);
        } else if (stream->packing == PACKING_ZSTD) {
            n = unpack_zstd(stream, data, len);
        } else {
            n = (ssize_t)(stream->in_len - stream->in_at < len ? stream->in_len - stream->in_at
                                                               : len);
            memcpy(data, stream->in + stream->in_at, (size_t)n);
            stream->in_at += (size_t)n;
            stream->between = true;
        }
        if (n > 0) {
            sha256_update(&stream->unpacked, data, (size_t)n);
            stream->input_ended = false;
        }
        if (n != 0) {
            return n;
        }
    }
}

int image_stream_finish(struct image_stream *stream, uint8_t ret_packed[SHA256_SIZE],
                        uint8_t ret_unpacked[SHA256_SIZE])
{
    uint8_t scrap[8192];
    ssize_t n;
    while ((n = image_stream_read(stream, scrap, sizeof(scrap))) > 0) {
    }
    if (n < 0) {
        return (int)n;
    }
    sha256_final(&stream->packed, ret_packed);
    sha256_final(&stream->unpacked, ret_unpacked);
    return 0;
}
