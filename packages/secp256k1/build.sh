autoreconf -fi >/dev/null
./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic --enable-module-recovery --disable-module-ecdh \
    --disable-module-schnorrsig --disable-module-extrakeys --disable-module-ellswift --disable-tests --disable-exhaustive-tests \
    --disable-benchmark --disable-examples --disable-dependency-tracking
make -j"$JOBS"
make DESTDIR="$OUT" install
