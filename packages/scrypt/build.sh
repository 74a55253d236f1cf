# The library without its command line and its shared-library tricks.
sources="b64.c crypto_scrypt-nosse.c crypto-mcf.c crypto-scrypt-saltgen.c sha256.c slowequals.c crypto_scrypt-check.c crypto_scrypt-hash.c crypto_scrypt-hexconvert.c"
objects=
for source in $sources; do
    [ "$source" = main.c ] && continue
    $CC $CPPFLAGS $CFLAGS -D_GNU_SOURCE -c "$source" -o "${source%.c}.o"
    objects="$objects ${source%.c}.o"
done
mkdir -p "$OUT/lib" "$OUT/include"
ar rcD "$OUT/lib/libscrypt.a" $objects
cp libscrypt.h "$OUT/include/"
