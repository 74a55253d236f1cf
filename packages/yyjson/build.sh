$CC $CPPFLAGS $CFLAGS -c src/yyjson.c -o yyjson.o
mkdir -p "$OUT/lib" "$OUT/include"
ar rcD "$OUT/lib/libyyjson.a" yyjson.o
cp src/yyjson.h "$OUT/include/"
