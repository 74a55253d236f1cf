# Our C. The library of core0/lib, one program per folder with a program.mk, unit tests and fuzz targets.
# Flavours of every object: `target` (musl, what ships), `asan` (the machine's C library under the sanitizers), and `fuzz`
# (the same by clang, counting edges for libFuzzer).

WARN := -std=gnu17 -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Werror
DEFS := -D_GNU_SOURCE -Icore0 -Ibuild
# What OpenSSF recommends, less _FORTIFY_SOURCE (musl has none) and CET (musl's assembler code carries no marks).
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero -fno-delete-null-pointer-checks \
	-fno-strict-overflow -fno-common
MAPS := -ffile-prefix-map=$(CURDIR)/=

CC_target := build/pkg/musl/bin/croft-cc
CFLAGS_target := -O2 -g $(WARN) $(DEFS) $(HARDEN) $(MAPS) -ffunction-sections -fdata-sections
LDFLAGS_target := -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--build-id=none
CC_asan := gcc
CFLAGS_asan := -O1 -g $(WARN) $(DEFS) -fPIE -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS_asan := -pie -fsanitize=address,undefined
# gcc and clang-tidy judge the code; here only what runs matters. clang minds NULL + offset, which yyjson's loops over an absent array compute.
CC_fuzz := clang
CFLAGS_fuzz := -std=gnu17 -O1 -g -w $(DEFS) -fPIE -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=pointer-overflow -fno-sanitize-recover=all
LDFLAGS_fuzz := -pie -fsanitize=fuzzer,address,undefined
SUFFIX_target :=
SUFFIX_asan := -host
SUFFIX_fuzz := -host
FLAVOURS := target asan fuzz

# Packages whose headers the library may include; a program links those that its program.mk names.
LIB_PACKAGES := yyjson mbedtls curl secp256k1 scrypt picohttpparser zstd zlib
LIB_SOURCES := $(sort $(shell find core0/lib -name '*.c' 2>/dev/null))
VARLINK := $(sort $(wildcard core0/interfaces/*.varlink))

# A list of inputs as a file that changes with the list: what is made from it is made anew when a file goes away.
build/lists/%: FORCE
	@mkdir -p $(@D) && echo '$(LIST_$*)' | cmp -s - $@ || echo '$(LIST_$*)' > $@
LIST_lib := $(LIB_SOURCES)
LIST_varlink := $(VARLINK)
.PHONY: FORCE
FORCE:

build/gen/interfaces.h: $(VARLINK) scripts/varlink-c build/lists/varlink
	$(call say,gen,$@)mkdir -p $(@D) && $(PYTHON) scripts/varlink-c build/gen $(VARLINK)
build/gen/interfaces.c: build/gen/interfaces.h ; @true

# object_rules: flavour, packages whose headers are seen. Sources are found by their path.
define object_rules
build/obj/$(1)/%.o: %.c | build/gen/interfaces.h $(call pkg_keys,$(if $(filter target,$(1)),musl) ,)
	$$(call say,cc,$$< $(filter-out target,$(1)))mkdir -p $$(@D) && \
	$(CC_$(1)) $(CFLAGS_$(1)) $$(call pkg_includes,$$(call pkg_closure,$(LIB_PACKAGES) $$(PACKAGES)),$(SUFFIX_$(1))) \
	    $$(if $$(findstring tests/fuzz/,$$<),-Wno-missing-prototypes) -MMD -MP -MF $$(@:.o=.d) -MT $$@ -c $$< -o $$@.$$$$$$$$ && mv $$@.$$$$$$$$ $$@
build/obj/$(1)/build/gen/interfaces.o: build/gen/interfaces.c

LIB_OBJECTS_$(1) := $(LIB_SOURCES:%.c=build/obj/$(1)/%.o) build/obj/$(1)/build/gen/interfaces.o
$$(LIB_OBJECTS_$(1)): $(call pkg_keys,$(LIB_PACKAGES),$(SUFFIX_$(1))) $(if $(filter target,$(1)),build/pkg/musl.key)
build/lib/libcroft-$(1).a: $$(LIB_OBJECTS_$(1)) build/lists/lib
	$$(call say,ar,$$@)mkdir -p $$(@D) && rm -f $$@.$$$$$$$$ && ar rcD $$@.$$$$$$$$ $$(LIB_OBJECTS_$(1)) && mv $$@.$$$$$$$$ $$@
endef
$(foreach f,$(FLAVOURS),$(eval $(call object_rules,$(f))))

# program_rules: name, folder, packages
define program_rules
PROGRAMS += $(1)
PKG_PROGRAMS += $(3)
SOURCES_$(1) := $(sort $(wildcard $(2)/*.c))
LIST_program-$(1) := $$(SOURCES_$(1))
$$(foreach f,$(FLAVOURS),$$(SOURCES_$(1):%.c=build/obj/$$(f)/%.o)): PACKAGES := $(3)
$$(SOURCES_$(1):%.c=build/obj/target/%.o): $(call pkg_keys,musl $(call pkg_closure,$(3) $(LIB_PACKAGES)),)
build/debug/$(1): $$(SOURCES_$(1):%.c=build/obj/target/%.o) build/lib/libcroft-target.a build/lists/program-$(1)
	$$(call say,link,build/bin/$(1))mkdir -p $$(@D) && $(CC_target) $(LDFLAGS_target) -o $$@.$$$$$$$$ $$(filter %.o,$$^) \
	    -Wl,--start-group build/lib/libcroft-target.a $(call pkg_link,$(3),) -Wl,--end-group && mv $$@.$$$$$$$$ $$@
build/bin/$(1): build/debug/$(1)
	$(Q)mkdir -p $$(@D) && strip -o $$@.$$$$$$$$ $$< && mv $$@.$$$$$$$$ $$@
endef
# newer_rules: a daemon as another build, which says so; tests put it in place of the image's while it runs.
NEWER_VERSION := newer
build/obj/newer/core0/lib/daemon.o: core0/lib/daemon.c build/obj/target/core0/lib/daemon.o
	$(call say,cc,$< newer)mkdir -p $(@D) && $(CC_target) $(CFLAGS_target) -DCROFT_VERSION='"$(NEWER_VERSION)"' \
	    $(call pkg_includes,$(call pkg_closure,$(LIB_PACKAGES)),$(SUFFIX_target)) -c $< -o $@.$$$$ && mv $@.$$$$ $@
define newer_rules
build/newer/$(1): build/debug/$(1) build/obj/newer/core0/lib/daemon.o
	$$(call say,link,$$@)mkdir -p $$(@D) && $(CC_target) $(LDFLAGS_target) -s -o $$@.$$$$$$$$ build/obj/newer/core0/lib/daemon.o \
	    $$(SOURCES_$(1):%.c=build/obj/target/%.o) \
	    -Wl,--start-group build/lib/libcroft-target.a $(call pkg_link,$(2),) -Wl,--end-group && mv $$@.$$$$$$$$ $$@
endef
PROGRAMS :=
PKG_PROGRAMS :=
$(foreach f,$(sort $(wildcard core0/*/program.mk)),$(eval PROGRAM :=)$(eval PACKAGES :=)$(eval include $(f))$(eval \
	$(call program_rules,$(PROGRAM),$(f:/program.mk=),$(PACKAGES)))$(eval $(call newer_rules,$(PROGRAM),$(PACKAGES))))
PACKAGES :=

.PHONY: bin
bin: $(addprefix build/bin/,$(PROGRAMS)) ## Build: every program of ours, static, into build/bin/

-include $(shell find build/obj -name '*.d' 2>/dev/null)
