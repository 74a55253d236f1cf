# The engines that need no library: psync and io_uring.
./configure --cc="$CC" --build-static --disable-native --disable-shm --disable-numa --disable-rdma --disable-rados --disable-rbd --disable-http --disable-gfapi \
    --disable-libzbc --disable-xnvme --disable-isal --disable-libblkio --disable-pmem --disable-tls --disable-optimizations --extra-cflags="$CFLAGS -include linux/falloc.h"
make -j"$JOBS" fio
mkdir -p "$OUT/bin"
strip -o "$OUT/bin/fio" fio
