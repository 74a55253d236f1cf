./autogen.sh >/dev/null
ZLIB_CFLAGS="-I$DEP_zlib/include" ZLIB_LIBS="-L$DEP_zlib/lib -lz" ZSTD_CFLAGS="-I$DEP_zstd/include" ZSTD_LIBS="-L$DEP_zstd/lib -lzstd" \
BLKID_CFLAGS="-I$DEP_util_linux/include" BLKID_LIBS="-L$DEP_util_linux/lib -lblkid" UUID_CFLAGS="-I$DEP_util_linux/include" UUID_LIBS="-L$DEP_util_linux/lib -luuid" \
    ./configure --host="$HOST" --prefix=/usr --enable-static --disable-shared --disable-documentation --disable-convert --disable-python --disable-libudev \
    --disable-lzo --enable-zstd --disable-zoned --disable-backtrace --disable-programs --disable-experimental --with-crypto=builtin
make -j"$JOBS" V=1 EXTRA_CFLAGS="$CPPFLAGS $CFLAGS" EXTRA_LDFLAGS="$LDFLAGS" btrfs.static mkfs.btrfs.static
mkdir -p "$OUT/bin"
strip -o "$OUT/bin/btrfs" btrfs.static
strip -o "$OUT/bin/mkfs.btrfs" mkfs.btrfs.static
