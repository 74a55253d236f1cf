# The writer and the digests; mounting is imaged's own. Its own SHA-256 is used (no OpenSSL).
cat > config.h <<'CONFIG'
#define HAVE_ENDIAN_H 1
#define HAVE_REALLOCARRAY 1
#define LCFS_EXTERN extern
CONFIG
cd libcomposefs
for source in hash lcfs-fsverity lcfs-utils lcfs-writer-erofs lcfs-writer; do
    $CC $CPPFLAGS $CFLAGS -std=gnu11 -D_GNU_SOURCE -I.. -DUSE_OBSTACK=0 -DTESTING=0 -DUSE_DIFF_HASH=0 -c $source.c -o $source.o
done
mkdir -p "$OUT/lib" "$OUT/include/libcomposefs"
ar rcD "$OUT/lib/libcomposefs.a" *.o
cp lcfs-writer.h lcfs-erofs.h "$OUT/include/libcomposefs/"
