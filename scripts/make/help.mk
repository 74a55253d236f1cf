# `make help`: every target that carries a `## Group: text` comment, grouped, one line each.
.PHONY: help
help: ## Build: this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { split($$2, part, ": "); group = part[1]; text = substr($$2, length(group) + 3); \
	    if (!(group in lines)) order[++n] = group; lines[group] = lines[group] sprintf("  make %-14s %s\n", $$1, text) } \
	  END { for (i = 1; i <= n; i++) printf "%s%s:\n%s", (i > 1 ? "\n" : ""), order[i], lines[order[i]] }' \
	  scripts/make/image.mk scripts/make/code.mk Makefile scripts/make/help.mk scripts/make/test.mk scripts/make/check.mk scripts/make/host.mk
	@printf '\nV=1 shows commands, STRICT=1 refuses fall-back sources, CROFT_CACHE= moves the cache of built packages.\n'
