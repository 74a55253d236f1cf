# Its own flags (-O3, LTO) and its own copy of jemalloc: a baseline is built as its makers mean it. Debian's patch for
# the system's jemalloc compares with "yes", which the preprocessor takes for 0: any other number says no.
unset LDFLAGS CPPFLAGS
export CFLAGS=-DUSE_SYSTEM_JEMALLOC=1
make -C src -j"$JOBS" MALLOC=jemalloc USE_SYSTEMD=no BUILD_TLS=no PKG_CONFIG=/bin/false valkey-server
mkdir -p "$OUT/bin"
cp src/valkey-server "$OUT/bin/"
