./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --disable-tests --with-pic --disable-dependency-tracking
make -j"$JOBS"
make DESTDIR="$OUT" install
rm -rf "$OUT/usr/share"
