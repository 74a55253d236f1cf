[ -x configure ] || ./autogen.sh
./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic --disable-all-programs --enable-libuuid --enable-libblkid \
    --disable-nls --disable-asciidoc --disable-bash-completion --without-python --without-systemd --without-ncurses --without-econf --disable-dependency-tracking
make -j"$JOBS" libuuid.la libblkid.la
make DESTDIR="$OUT" install-usrlib_execLTLIBRARIES install-uuidincHEADERS install-blkidincHEADERS install-nodist_blkidincHEADERS install-pkgconfigDATA || \
    make DESTDIR="$OUT" install
