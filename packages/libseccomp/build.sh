[ -x configure ] || autoreconf -fi >/dev/null
./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic --disable-python --disable-dependency-tracking
make -C include
make -C src -j"$JOBS" libseccomp.la
make -C src DESTDIR="$OUT" install-libLTLIBRARIES
make -C include DESTDIR="$OUT" install
make DESTDIR="$OUT" install-pkgconfDATA
