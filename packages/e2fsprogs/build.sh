CFLAGS="$CPPFLAGS $CFLAGS" ./configure --host="$HOST" --prefix=/usr --disable-elf-shlibs --disable-nls --disable-defrag --disable-debugfs --disable-imager \
    --disable-resizer --disable-fuse2fs --disable-uuidd --disable-tdb --disable-bmap-stats --enable-libuuid --enable-libblkid --without-libarchive --disable-threads
make -j"$JOBS" libs
make -C misc -j"$JOBS" mke2fs
mkdir -p "$OUT/bin"
strip -o "$OUT/bin/mke2fs" misc/mke2fs
