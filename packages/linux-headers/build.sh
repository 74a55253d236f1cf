tar -xf usr/src/linux-source-6.12.tar.xz -C "$WORK"
cd "$WORK/linux-source-6.12"
unset CC CFLAGS CPPFLAGS LDFLAGS AR ARFLAGS RANLIB
make -s ARCH=x86 headers
mkdir "$OUT/include"
cd usr/include
find . -name '*.h' | cpio -pdm --quiet "$OUT/include"
