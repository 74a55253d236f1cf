# What the machine needs, and the third-party packages.

.PHONY: setup packages
setup: build/.setup ## Machine: install the system packages that are missing (any target does)
build/.setup: scripts/host-packages.txt scripts/setup
	@mkdir -p build && scripts/setup && touch $@

packages: build/.setup ## Machine: build every third-party package of the image into the cache
	@$(PYTHON) scripts/packages.py build $(PKG_IMAGE)

build/packages.mk: $(wildcard packages/*/recipe.toml) scripts/packages.py | build/.setup
	@$(PYTHON) scripts/packages.py makefile > $@.tmp && mv $@.tmp $@
-include build/packages.mk

# build/pkg/<name> is a link to the package in the cache, build/pkg/<name>.key changes when the package does.
PKG_INPUTS := $(wildcard packages/*/*) scripts/packages.py
build/pkg/%.stamp: $(PKG_INPUTS) | build/.setup
	@mkdir -p $(@D) && $(PYTHON) scripts/packages.py build $(if $(filter %-host,$*),$(patsubst %-host,%,$*):host,$*) && touch $@
build/pkg/%.key: build/pkg/%.stamp ; @true
build/pkg/linux.stamp: $(wildcard kernel-config/*.config)

pkg_keys = $(addprefix build/pkg/,$(addsuffix $(2).key,$(1)))
pkg_includes = $(foreach p,$(1),-isystem build/pkg/$(p)$(2)/include)
pkg_closure = $(sort $(foreach p,$(1),$(PKG_CLOSURE_$(p))))
pkg_link = $(foreach p,$(call pkg_closure,$(1)),-Lbuild/pkg/$(p)$(2)/lib) -Wl,--start-group $(foreach p,$(1),$(PKG_LIBS_$(p))) -Wl,--end-group
