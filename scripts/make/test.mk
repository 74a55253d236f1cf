# Tests by tier. Every part writes its result into build/test/, and `make test` ends with one line over all of them.

TEST_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
FUZZ_SOURCES := $(filter-out tests/fuzz/driver.c,$(sort $(wildcard tests/fuzz/*.c)))
LIST_tests := $(TEST_SOURCES) $(FUZZ_SOURCES)
TALLY := $(PYTHON) scripts/test-result

# The first lines of a test name what it links besides the library:
#   // sources: core0/net/dhcp.c core0/net/plan.c
#   // packages: mbedtls
build/tests.mk: $(TEST_SOURCES) $(FUZZ_SOURCES) build/lists/tests
	@awk 'FNR == 1 { name = FILENAME; sub(/.*\//, "", name); sub(/\.c$$/, "", name); kind = FILENAME ~ /fuzz/ ? "FUZZ" : "UNIT"; \
	    print kind "_SOURCES_" name " := " FILENAME } \
	  FNR <= 30 && /^\/\/ *sources:/ { sub(/^\/\/ *sources: */, ""); print kind "_SOURCES_" name " += " $$0 } \
	  FNR <= 30 && /^\/\/ *packages:/ { sub(/^\/\/ *packages: */, ""); print kind "_PACKAGES_" name " := " $$0 }' \
	  /dev/null $(TEST_SOURCES) $(FUZZ_SOURCES) > $@.tmp && mv $@.tmp $@
-include build/tests.mk

# test_rules: name, flavour, folder of the result, UNIT or FUZZ, further packages, further objects
define test_rules
$$($(4)_SOURCES_$(1):%.c=build/obj/$(2)/%.o): $(call pkg_keys,$(if $(filter target,$(2)),musl),) $(call pkg_keys,$(call pkg_closure,$(5) $($(4)_PACKAGES_$(1)) $(LIB_PACKAGES)),$(SUFFIX_$(2)))
build/obj/$(2)/tests/$(if $(filter UNIT,$(4)),unit,fuzz)/$(1).o: PACKAGES := $(5) $($(4)_PACKAGES_$(1))
build/test/$(3)/$(1): $$($(4)_SOURCES_$(1):%.c=build/obj/$(2)/%.o) build/lib/libcroft-$(2).a $(6)
	$$(call say,link,$$@)mkdir -p $$(@D) && $(CC_$(2)) $(LDFLAGS_$(2)) -o $$@.$$$$$$$$ $$(filter %.o,$$^) \
	    -Wl,--start-group build/lib/libcroft-$(2).a $(call pkg_link,$(5) $($(4)_PACKAGES_$(1)) $(LIB_PACKAGES),$(SUFFIX_$(2))) -Wl,--end-group && mv $$@.$$$$$$$$ $$@
endef
# What several unit tests share, named in their "sources:" lines.
TEST_SHARED := $(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c))
$(foreach f,$(FLAVOURS),$(TEST_SHARED:%.c=build/obj/$(f)/%.o)): PACKAGES := cmocka
TESTS := $(notdir $(TEST_SOURCES:.c=))
FUZZERS := $(notdir $(FUZZ_SOURCES:.c=))
$(foreach t,$(TESTS),$(eval $(call test_rules,$(t),target,unit,UNIT,cmocka,)))
$(foreach t,$(TESTS),$(eval $(call test_rules,$(t),asan,asan,UNIT,cmocka,)))
$(foreach t,$(FUZZERS),$(eval $(call test_rules,$(t),asan,fuzz,FUZZ,,build/obj/asan/tests/fuzz/driver.o)))
$(foreach t,$(FUZZERS),$(eval $(call test_rules,$(t),fuzz,libfuzzer,FUZZ,,)))

# kvd as its tests want it: under the sanitizers, and with STOP, which ends it so that what leaked is told.
KVD_DEBUG_OBJECTS := $(patsubst %/command_system.o,%/command_system-debug.o,$(SOURCES_kvd:%.c=build/obj/asan/%.o))
KVD_DEBUG_PACKAGES := mbedtls picohttpparser $(LIB_PACKAGES)
$(KVD_DEBUG_OBJECTS): $(call pkg_keys,$(call pkg_closure,$(KVD_DEBUG_PACKAGES)),$(SUFFIX_asan))
build/obj/asan/core0/kv/command_system-debug.o: core0/kv/command_system.c | build/gen/interfaces.h
	$(call say,cc,$< STOP)mkdir -p $(@D) && $(CC_asan) $(CFLAGS_asan) -DKVD_DEBUG \
	    $(call pkg_includes,$(call pkg_closure,$(KVD_DEBUG_PACKAGES)),$(SUFFIX_asan)) -MMD -MP -MF $(@:.o=.d) -MT $@ -c $< -o $@
build/test/kvd-debug: $(KVD_DEBUG_OBJECTS) build/lib/libcroft-asan.a build/lists/program-kvd
	$(call say,link,$@)mkdir -p $(@D) && $(CC_asan) $(LDFLAGS_asan) -o $@.$$$$ $(filter %.o,$^) \
	    -Wl,--start-group build/lib/libcroft-asan.a $(call pkg_link,$(KVD_DEBUG_PACKAGES),$(SUFFIX_asan)) -Wl,--end-group && mv $@.$$$$ $@

# T=name chooses one test of a tier.
chosen = $(if $(T),$(filter $(T) test_$(T),$(1)),$(1))

.PHONY: test test-unit test-asan test-fuzz test-chain test-relay test-kv test-qemu test-interop test-lanes
TEST_PARTS := test-unit test-asan test-fuzz test-image
TEST_LANES := net relay kv interop qemu
# The parts run one after another, also after a failure, so that one run shows everything. Those that mostly wait run
# side by side at the end.
test: ## Test: everything below, with one summary line
	@rm -f build/test/*.json; for part in $(TEST_PARTS) test-lanes; do $(MAKE) $$part || true; done; \
	    $(TALLY) summary $(TEST_PARTS) test-chain $(TEST_LANES:%=test-%)

test-lanes: image tests-tools build/bin/kvd build/test/kvd-debug
	@$(TALLY) lanes "test-chain=$(MAKE) -C chain test" $(foreach t,$(TEST_LANES),test-$(t)=tests/$(t))

# A test that does not compile fails its tier, and does not hide the others.
run_tier = +@failed=; $(MAKE) -k $(2) || failed=1; BUILD_FAILED=$$failed $(TALLY) run $(1) $(2)

test-unit: build/.setup bin ## Test: functions (T=name for one)
	$(call run_tier,$@,$(addprefix build/test/unit/,$(call chosen,$(TESTS))))

test-asan: build/.setup ## Test: the same under AddressSanitizer and UBSan
	$(call run_tier,$@,$(addprefix build/test/asan/,$(call chosen,$(TESTS))))

test-fuzz: build/.setup ## Test: every parser on its corpus and on damaged copies of it
	$(call run_tier,$@,$(addprefix build/test/fuzz/,$(call chosen,$(FUZZERS))))

.PHONY: test-image
test-image: image ## Test: what ships, read back: hardening of every program, sizes, kernel symbols
	@$(TALLY) pytest test-image tests/image

test-chain: build/.setup ## Test: the contracts, with fuzzing and invariants
	@$(TALLY) command test-chain $(MAKE) -C chain test

test-net: build/.setup bin ## Test: netd in network namespaces, with routers and hosts around it
	@$(TALLY) pytest test-net tests/net $(if $(T),-k "$(T)")

test-relay: bin tests-tools ## Test: noded and croft-relay with a real chain
	@$(MAKE) -C chain build && $(TALLY) pytest test-relay tests/relay $(if $(T),-k "$(T)")

test-kv: build/.setup build/bin/kvd build/test/kvd-debug ## Test: the key-value server with real clients, hostile ones, kills and replicas
	@$(TALLY) pytest test-kv tests/kv $(if $(T),-k "$(T)")

test-qemu: image tests-tools ## Test: whole nodes in QEMU (T=name for one)
	@$(TALLY) pytest test-qemu tests/qemu $(if $(T),-k "$(T)")

test-interop: build/.setup bin ## Test: our programs against other people's: varlinkctl, skopeo, mkcomposefs, a web server
	@$(TALLY) pytest test-interop tests/interop $(if $(T),-k "$(T)")

# What the machine tests and the demonstration need besides the image.
.PHONY: tests-tools chain-build
REPLACED := netd storaged imaged contd noded provd gated kvd
tests-tools: build/tests/agent build/tests/attack build/bin/croft build/bin/croft-relay chain-build $(REPLACED:%=build/newer/%)
chain-build: build/.setup
	@$(MAKE) -C chain build
build/tests/agent: tests/agent/agent.c build/pkg/musl.key
	$(call say,cc,$<)mkdir -p $(@D) && $(CC_target) -std=gnu17 -O2 -Wall -Wextra -Werror -o $@ $<

# What a hostile tenant does, for the tests of isolation.
build/tests/attack: $(wildcard tests/attack/*.c) tests/attack/attack.h build/pkg/musl.key
	$(call say,cc,tests/attack)mkdir -p $(@D) && $(CC_target) -std=gnu17 -O2 -Wall -Wextra -Wno-missing-field-initializers -Werror \
	    -o $@ $(filter %.c,$^)

.PHONY: fuzz
fuzz: $(addprefix build/test/libfuzzer/,$(call chosen,$(FUZZERS))) ## Test: look for new crashes with libFuzzer, until an hour brought nothing (T=parser, SECONDS_EACH=60)
	@scripts/fuzz run $(call chosen,$(FUZZERS))

.PHONY: bench demo run soak
bench: image tests-tools ## Run: benchmarks into build/bench/ (B=name for one)
	@mkdir -p build/bench && for script in $(if $(B),tests/bench/$(B).py,$(wildcard tests/bench/*.py)); do $(PYTHON) $$script || exit 1; done

soak: ## Run: what takes long (S=kvd, week, power; all without): kvd under kills for MINUTES=30; COUNT=1000 changes of a node with faults; a power cut in every phase
	@for s in $(or $(S),kvd week power); do $(MAKE) soak-$$s || exit 1; done

.PHONY: soak-kvd soak-week soak-power
soak-kvd: build/.setup build/bin/kvd
	@MINUTES=$(or $(MINUTES),30) $(PYTHON) tests/soak/kvd.py

soak-week: image tests-tools
	@COUNT=$(COUNT) SEED=$(SEED) MINUTES=$(MINUTES) $(PYTHON) tests/soak/week.py

soak-power: image tests-tools
	@POINTS=all $(PYTHON) -m pytest -q tests/qemu/test_survival_power.py

demo: image tests-tools ## Run: the main job: chain, farm, node in QEMU, nginx because a contract says so (ONESHOT=1 checks and ends)
	@scripts/demo

run: image ## Run: a node of your own in QEMU, on this terminal (APPEND="farmer_id=1 …" adds boot parameters)
	@board/pc/run "$(APPEND)"
