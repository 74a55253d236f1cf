# Upstream's default configuration: TLS 1.2 and 1.3, PSA crypto, X25519, HKDF, AES-GCM with AES-NI; and with locks, because
# kvd's workers each serve TLS, and sessions share the keys and random numbers of PSA.
for option in MBEDTLS_THREADING_C MBEDTLS_THREADING_PTHREAD; do
    sed -i "s|^//#define $option\$|#define $option|" include/mbedtls/mbedtls_config.h
    grep -q "^#define $option\$" include/mbedtls/mbedtls_config.h
done
make -C library -j"$JOBS" CC="$CC" AR=ar CFLAGS="$CFLAGS" static
mkdir -p "$OUT/lib" "$OUT/include"
cp library/libmbed*.a "$OUT/lib/"
cp -r include/mbedtls include/psa "$OUT/include/"
