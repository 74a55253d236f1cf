# The flags are musl's own business (it compiles its start-up code without a stack protector); only hardening is added.
CFLAGS="-O2 -pipe -fPIC -fstack-clash-protection -ffunction-sections -fdata-sections -ffile-prefix-map=$WORK=/usr/src" CPPFLAGS= LDFLAGS= \
    ./configure --prefix=/ --syslibdir=/lib --enable-wrapper=no --disable-shared --enable-optimize
make -j"$JOBS"
make DESTDIR="$OUT" install
cp -r "$DEP_linux_headers"/include/{asm,asm-generic,linux,mtd,rdma,scsi,sound,video,misc,drm} "$OUT/include/" 2>/dev/null || true
test -f "$OUT/include/linux/netlink.h"

# Our own specs. `musl-gcc -static-pie` silently makes a dynamic executable; here a program is a static PIE unless it is
# asked to be something else that can be linked (-r, -shared).
gcc_include=$(gcc -print-file-name=include)
cat > "$OUT/lib/croft.specs" <<SPECS
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem $FINAL/include -isystem $gcc_include %(old_cpp_options)

*cc1:
%(cc1_cpu) -nostdinc -isystem $FINAL/include -isystem $gcc_include

*link_libgcc:
-L$FINAL/lib -L .%s

*libgcc:
libgcc.a%s libgcc_eh.a%s

*startfile:
%{!r:%{!shared:$FINAL/lib/rcrt1.o} $FINAL/lib/crti.o crtbeginS.o%s}

*endfile:
%{!r:crtendS.o%s $FINAL/lib/crtn.o}

*link:
%{r:-r;shared:-shared;:-static -pie --no-dynamic-linker -z text} -nostdlib -z relro -z now -z noexecstack --build-id=none

*esp_link:


*esp_options:


*esp_cpp_options:


SPECS
mkdir -p "$OUT/bin"
cat > "$OUT/bin/croft-cc" <<WRAPPER
#!/bin/sh
exec \${REALGCC:-gcc} "\$@" -specs "$FINAL/lib/croft.specs"
WRAPPER
chmod +x "$OUT/bin/croft-cc"
