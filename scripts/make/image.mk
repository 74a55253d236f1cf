# The bootable image.

IMAGE := build/image
# The relay runs at people's desks and does not ship; everything else of ours does, the command line for a node's console.
IMAGE_PROGRAMS := $(addprefix build/bin/,$(filter-out croft croft-relay,$(PROGRAMS)))
IMAGE_INPUTS := $(wildcard initramfs/* initramfs/*/*) build/bin/croft
LIST_image := $(IMAGE_PROGRAMS) $(IMAGE_INPUTS)
STUB := /usr/lib/systemd/boot/efi/linuxx64.efi.stub
# 19 for what is released; a lower level packs faster while one works (LEVEL=3).
LEVEL ?= 19

.PHONY: image size
image: $(IMAGE)/vmlinuz $(IMAGE)/initramfs.cpio.zst $(IMAGE)/croft.efi $(IMAGE)/SIZES.tsv ## Build: the bootable image, from source, into build/image/

$(IMAGE)/vmlinuz: build/pkg/linux.key
	$(call say,copy,$@)mkdir -p $(@D) && cp build/pkg/linux/vmlinuz $@ && \
	$(PYTHON) scripts/check-kernel-config build/pkg/linux/config kernel-config/*.config kernel-config/required.txt > /dev/null

# Version, build time (the lower bound of the clock) and whether a source was not the pinned one.
$(IMAGE)/os-release: FORCE $(call pkg_keys,$(PKG_IMAGE),)
	@mkdir -p $(@D) && fallback=$$({ ls build/pkg/*/FALLBACK 2>/dev/null || true; } | head -1) && { \
	echo 'NAME=Croft'; echo 'ID=croft'; echo 'PRETTY_NAME="Croft $(VERSION)"'; echo 'VERSION_ID="$(VERSION)"'; echo 'CROFT_BUILD_TIME=$(BUILD_TIME)'; \
	echo "CROFT_RELEASABLE=$$([ -n "$$fallback" ] && echo no || echo yes)"; } > $@.$$$$ && \
	if [ -n "$$fallback" ]; then touch build/FALLBACK; echo "warning: built from fall-back sources, not releasable: $$fallback"; else rm -f build/FALLBACK; fi && \
	if cmp -s $@.$$$$ $@; then rm $@.$$$$; else mv $@.$$$$ $@; fi

# The kernel is named in the image's digest, which the root file system carries.
$(IMAGE)/initramfs.cpio: $(IMAGE)/vmlinuz $(IMAGE_PROGRAMS) $(IMAGE_INPUTS) $(IMAGE)/os-release build/lists/image scripts/make-initramfs $(call pkg_keys,$(PKG_IMAGE),)
	$(call say,pack,$@)$(PYTHON) scripts/make-initramfs initramfs/contents $@.$$$$ $(IMAGE)/files.tsv $(IMAGE)/image-digest $(BUILD_TIME) $(IMAGE)/vmlinuz $(IMAGE_PROGRAMS) && mv $@.$$$$ $@

# The kernel's unpacker takes windows up to 128 MiB.
$(IMAGE)/initramfs.cpio.zst: $(IMAGE)/initramfs.cpio
	$(call say,zstd,$@)zstd -q -$(LEVEL) --long=26 --single-thread -f $< -o $@.$$$$ && mv $@.$$$$ $@

$(IMAGE)/croft.efi: $(IMAGE)/vmlinuz $(IMAGE)/initramfs.cpio.zst board/pc/cmdline $(IMAGE)/os-release scripts/make-uki
	$(call say,efi,$@)$(PYTHON) scripts/make-uki $(STUB) $(IMAGE)/vmlinuz $(IMAGE)/initramfs.cpio.zst board/pc/cmdline $(IMAGE)/os-release build/pkg/linux/release $@.$$$$ && mv $@.$$$$ $@

$(IMAGE)/SIZES.tsv: $(IMAGE)/croft.efi $(IMAGE)/initramfs.cpio
	@{ stat -c '%s	%n' $(IMAGE)/vmlinuz $(IMAGE)/initramfs.cpio.zst $(IMAGE)/croft.efi | sed 's,	$(IMAGE)/,	,'; cat $(IMAGE)/files.tsv; } | sort -t'	' -k1,1nr -k2 > $@
	@stat -c '%s' $(IMAGE)/vmlinuz $(IMAGE)/initramfs.cpio.zst | awk '{ total += $$1 } END { printf "  image vmlinuz + initramfs: %.1f MB\n", total / 1e6 }'

size: image ## Build: what the image consists of, largest first
	@cat $(IMAGE)/SIZES.tsv
