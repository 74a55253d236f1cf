# Only the parts that the export of headers looks at: the whole source is 1.5 GB.
top=linux-source-6.12
tar -xf usr/src/$top.tar.xz -C "$WORK" $top/{Makefile,Kbuild,Kconfig,include,scripts,usr} $top/arch/x86 $top/tools/include
cd "$WORK/$top"
unset CC CFLAGS CPPFLAGS LDFLAGS AR ARFLAGS RANLIB
make -s ARCH=x86 headers
mkdir "$OUT/include"
cd usr/include
find . -name '*.h' | cpio -pdm --quiet "$OUT/include"
