# Upstream's default configuration: TLS 1.2 and 1.3, PSA crypto, X25519, HKDF, AES-GCM with AES-NI.
make -C library -j"$JOBS" CC="$CC" AR=ar CFLAGS="$CFLAGS" static
mkdir -p "$OUT/lib" "$OUT/include"
cp library/libmbed*.a "$OUT/lib/"
cp -r include/mbedtls include/psa "$OUT/include/"
