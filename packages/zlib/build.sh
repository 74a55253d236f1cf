CFLAGS="$CPPFLAGS $CFLAGS" ./configure --static --prefix="$OUT"
make -j"$JOBS" libz.a
mkdir -p "$OUT/lib" "$OUT/include"
cp libz.a "$OUT/lib/"
cp zlib.h zconf.h "$OUT/include/"
