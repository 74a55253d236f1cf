make -C lib -j"$JOBS" CC="$CC" CFLAGS="$CFLAGS" ZSTD_LEGACY_SUPPORT=0 libzstd.a
mkdir -p "$OUT/lib" "$OUT/include"
cp lib/libzstd.a "$OUT/lib/"
cp lib/zstd.h lib/zstd_errors.h lib/zdict.h "$OUT/include/"
