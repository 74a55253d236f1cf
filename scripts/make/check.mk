# Checks of the source text.

C_FILES := $(sort $(shell find core0 tests -name '*.[ch]' -not -path '*/node_modules/*' 2>/dev/null))
LINT_C := $(filter core0/%.c,$(C_FILES))
SHELL_FILES := $(shell grep -lsE '^\#!/bin/(ba)?sh' scripts/* .ci/run board/*/* tests/*/* 2>/dev/null) $(wildcard packages/*/build.sh)
PYTHON_FILES := $(shell grep -lsE '^\#!.*python' scripts/* tests/*/* 2>/dev/null) $(shell find scripts tests -name '*.py' -not -path '*/node_modules/*' 2>/dev/null)

.PHONY: lint lint-format lint-tidy lint-cppcheck lint-shell lint-python format
lint: lint-format lint-tidy lint-cppcheck lint-shell lint-python ## Check: format, clang-tidy, cppcheck, shellcheck, Python

lint-format: build/.setup
	$(call say,lint,clang-format)clang-format --dry-run --Werror $(C_FILES)

lint-tidy: $(addprefix build/lint/,$(LINT_C:=.ok))
# The machine's C library suffices to read our code; the compiler itself uses musl.
build/lint/%.c.ok: %.c .clang-tidy | build/gen/interfaces.h $(call pkg_keys,$(call pkg_closure,$(LIB_PACKAGES) $(PKG_PROGRAMS)),-host)
	$(call say,tidy,$<)mkdir -p $(@D) && { clang-tidy --quiet $< -- -std=gnu17 $(DEFS) $(call pkg_includes,$(call pkg_closure,$(LIB_PACKAGES) $(PKG_PROGRAMS)),-host) > $@.log 2>/dev/null || { cat $@.log; exit 1; }; } && touch $@

lint-cppcheck: build/.setup
	$(call say,lint,cppcheck)cppcheck -q -j2 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --std=c11 -Icore0 \
	    --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches $(LINT_C)

lint-shell: build/.setup
	$(call say,lint,shellcheck)shellcheck -x $(filter-out packages/%,$(SHELL_FILES)) && shellcheck -s bash -e SC1007,SC2154,SC2086,SC2034,SC2164,SC2115,SC2035,SC2012 $(filter packages/%,$(SHELL_FILES))

lint-python: build/.setup
	$(call say,lint,python)$(PYTHON) -c 'import ast, sys; [ast.parse(open(f, encoding="utf-8").read(), f) for f in sys.argv[1:]]' $(PYTHON_FILES)

format: build/.setup ## Check: bring all C into its format
	clang-format -i $(C_FILES)
