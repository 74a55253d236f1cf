printf '#define HAVE_ASSERT_H 1\n#define HAVE_INTTYPES_H 1\n#define HAVE_IO_H 0\n#define HAVE_MALLOC_H 1\n#define HAVE_SETJMP_H 1\n#define HAVE_SIGNAL_H 1\n#define HAVE_STDINT_H 1\n#define HAVE_STRINGS_H 1\n#define HAVE_TIME_H 1\n#define HAVE_UNISTD_H 1\n#define HAVE_SNPRINTF 1\n#define HAVE_VSNPRINTF 1\n#define HAVE_STRUCT_TIMESPEC 1\n#define HAVE_CLOCK_GETTIME 1\n#define HAVE_CLOCK_REALTIME 1\n#define HAVE_GCC_THREAD_LOCAL_STORAGE 1\n#define HAVE_STRSIGNAL 1\n' > config.h
$CC $CPPFLAGS $CFLAGS -DHAVE_CONFIG_H -D_GNU_SOURCE -I. -Iinclude -c src/cmocka.c -o cmocka.o
mkdir -p "$OUT/lib" "$OUT/include"
ar rcD "$OUT/lib/libcmocka.a" cmocka.o
cp include/cmocka*.h "$OUT/include/"
