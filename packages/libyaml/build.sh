[ -x configure ] || autoreconf -fi >/dev/null
./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic --disable-dependency-tracking
make -C src -j"$JOBS"
make -C src DESTDIR="$OUT" install
make -C include DESTDIR="$OUT" install
