# Only what a virtual disk needs (docs/decisions/0107-virtual-disks.md). No Argon2: keys are random, not passwords. mbedTLS opens
# the key slot in this process: the kernel offers no ciphers to programs. No translations, so gettext's autopoint is not needed.
cp /usr/share/gettext/config.rpath .
cp /usr/share/gettext/po/Makefile.in.in po/
AUTOPOINT=true autoreconf -fi >/dev/null
mkdir "$WORK/pc"
printf 'Name: uuid\nDescription: uuid\nVersion: 2.41\nLibs: -luuid\n' > "$WORK/pc/uuid.pc"
export PKG_CONFIG_LIBDIR="$WORK/pc:$PKG_CONFIG_LIBDIR"
./configure --host="$HOST" --prefix=/usr --disable-shared --enable-static --enable-static-cryptsetup --with-crypto_backend=mbedtls \
    --disable-internal-argon2 --with-luks2-pbkdf=pbkdf2 --disable-kernel_crypto --disable-keyring --disable-external-tokens --disable-ssh-token \
    --disable-luks2-reencryption --disable-hw-opal --disable-veritysetup --disable-integritysetup --disable-asciidoc --disable-nls --disable-udev \
    --disable-selinux --disable-blkid --disable-fips --without-tmpfilesdir --disable-dependency-tracking
make -j"$JOBS" cryptsetup.static
mkdir -p "$OUT/bin"
strip -o "$OUT/bin/cryptsetup" cryptsetup.static
