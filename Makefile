# Croft's only entry: `make help` lists what there is.
#
# Nothing has to be set up first: every target installs what the machine lacks (scripts/setup), builds third-party
# packages into a cache outside the checkout (scripts/packages.py), and works incrementally from there.

MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := image
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Debian's own interpreter: its packages (pytest and others) are the ones that scripts/setup installs.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
export PYTHON
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' '$(1)' '$(2)';)
unexport CFLAGS CPPFLAGS LDFLAGS

VERSION := $(shell git describe --tags --always --dirty=+ 2>/dev/null || echo unknown)
BUILD_TIME := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 1700000000))

include scripts/make/help.mk
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),image)),)
include scripts/make/host.mk
include scripts/make/code.mk
include scripts/make/image.mk
include scripts/make/test.mk
include scripts/make/check.mk
endif

.PHONY: clean
clean: ## Build: remove build/ (the cache stays)
	rm -rf build
