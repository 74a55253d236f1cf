cd deps/picohttpparser
$CC $CPPFLAGS $CFLAGS -c picohttpparser.c -o picohttpparser.o
mkdir -p "$OUT/lib" "$OUT/include"
ar rcD "$OUT/lib/libpicohttpparser.a" picohttpparser.o
cp picohttpparser.h "$OUT/include/"
