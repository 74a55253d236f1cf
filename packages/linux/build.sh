# allnoconfig with our fragments as KCONFIG_ALLCONFIG: nothing is on that nobody asked for. (tinyconfig followed by
# olddefconfig would let every newly visible symbol take its default.)
tar -xf usr/src/linux-source-6.12.tar.xz -C "$WORK"
cd "$WORK/linux-source-6.12"
export KBUILD_BUILD_TIMESTAMP=@$SOURCE_DATE_EPOCH KBUILD_BUILD_USER=croft KBUILD_BUILD_HOST=croft KBUILD_BUILD_VERSION=1
export KCFLAGS="-ffile-prefix-map=$PWD/=" KAFLAGS="-ffile-prefix-map=$PWD/="
unset CC CFLAGS CPPFLAGS LDFLAGS AR ARFLAGS RANLIB
cat "$ROOT"/kernel-config/*.config > "$WORK/all.config"
make -s KCONFIG_ALLCONFIG="$WORK/all.config" allnoconfig
python3 "$ROOT/scripts/check-kernel-config" .config "$ROOT"/kernel-config/*.config "$ROOT/kernel-config/required.txt"
nice -n 10 make -s -j"$JOBS" bzImage
cp arch/x86/boot/bzImage "$OUT/vmlinuz"
cp .config "$OUT/config"
cp System.map "$OUT/System.map"
make -s kernelrelease > "$OUT/release"
# The packer of the initramfs comes with the kernel.
mkdir -p "$OUT/bin"
gcc -O2 -o "$OUT/bin/gen_init_cpio" usr/gen_init_cpio.c
