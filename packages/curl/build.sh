# HTTP and WebSocket only. The certificates are those of the image; on a build host the program passes its own.
autoreconf -fi >/dev/null
LIBS="-lmbedtls -lmbedx509 -lmbedcrypto" ./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --with-pic \
    --with-mbedtls="$DEP_mbedtls" --enable-ares="$DEP_c_ares" --with-zlib="$DEP_zlib" --enable-http --enable-websockets \
    --disable-ftp --disable-file --disable-ldap --disable-ldaps --disable-rtsp --disable-dict --disable-telnet --disable-tftp \
    --disable-pop3 --disable-imap --disable-smb --disable-smtp --disable-gopher --disable-mqtt --disable-ipfs --disable-manual --disable-docs \
    --disable-threaded-resolver --disable-ntlm --disable-kerberos-auth --disable-negotiate-auth --disable-aws --disable-doh --disable-netrc \
    --disable-alt-svc --disable-hsts --disable-tls-srp --disable-libcurl-option --disable-unix-sockets --disable-dependency-tracking \
    --without-libpsl --without-libidn2 --without-brotli --without-zstd --without-nghttp2 --without-librtmp --without-libssh2 --without-libgsasl \
    --with-ca-bundle=/etc/ssl/certs/ca-certificates.crt --without-ca-path
make -C lib -j"$JOBS"
make -C lib DESTDIR="$OUT" install
make -C include DESTDIR="$OUT" install
