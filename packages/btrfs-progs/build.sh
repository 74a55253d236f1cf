# Its configure script wants pkg-config descriptions for a static build, which zlib and zstd of ours do not carry.
mkdir "$WORK/pc"
for name in zlib:z libzstd:zstd; do
    printf 'Name: %s\nDescription: %s\nVersion: 1.5.7\nLibs: -l%s\n' "${name%:*}" "${name%:*}" "${name#*:}" > "$WORK/pc/${name%:*}.pc"
done
export PKG_CONFIG_LIBDIR="$WORK/pc:$PKG_CONFIG_LIBDIR"
./autogen.sh >/dev/null
./configure --host="$HOST" --prefix=/usr --enable-static --disable-shared --disable-documentation --disable-convert --disable-python --disable-libudev \
    --disable-lzo --enable-zstd --disable-zoned --disable-backtrace --disable-programs --disable-experimental --with-crypto=builtin
make -j"$JOBS" V=1 EXTRA_CFLAGS="$CPPFLAGS $CFLAGS" EXTRA_LDFLAGS="$LDFLAGS" btrfs.static mkfs.btrfs.static
mkdir -p "$OUT/bin"
strip -o "$OUT/bin/btrfs" btrfs.static
strip -o "$OUT/bin/mkfs.btrfs" mkfs.btrfs.static
