# There is no udev in the image: libdevmapper makes the nodes in /dev/mapper itself.
./configure --host="$HOST" --prefix=/usr --enable-static_link --disable-shared --disable-udev_sync --disable-udev_rules --disable-selinux --disable-nls \
    --disable-readline --disable-editline --disable-blkid_wiping --without-blkid --without-libnvme --without-systemd --without-udev --disable-use-lvmlockd \
    --disable-lvmpolld --disable-cmdlib --disable-dmeventd --disable-systemd-journal --disable-app-machineid --disable-sd-notify --with-symvers=no \
    --disable-dependency-tracking
make -C include
make -C libdm -j"$JOBS" ioctl/libdevmapper.a
mkdir -p "$OUT/lib/pkgconfig" "$OUT/include"
cp libdm/ioctl/libdevmapper.a "$OUT/lib/"
cp libdm/libdevmapper.h "$OUT/include/"
cp libdm/libdevmapper.pc "$OUT/lib/pkgconfig/devmapper.pc"
