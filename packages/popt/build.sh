./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic --disable-nls --disable-dependency-tracking
make -C src -j"$JOBS" libpopt.la
make -C src DESTDIR="$OUT" install-libLTLIBRARIES install-includeHEADERS
make DESTDIR="$OUT" install-pkgconfigDATA
