# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into one
# cache folder outside the checkout (S3VECTOR_CACHE) and leave nothing running.

.DEFAULT_GOAL := help
.PHONY: help setup install demo demo-shell test fmt lint clean clean-cache

# Where the demo stores vectors: file or s3 (a Garage server that it starts itself).
STORAGE ?= file
# How many definitions the demo loads.
ROWS ?= 10000
# What demo-shell runs; without it, an interactive psql.
SQL ?=
export SQL

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo [STORAGE=file|s3] [ROWS=10000]"
	@echo "  make demo-shell [STORAGE=file|s3] [SQL='SELECT …']"

setup: ## install PostgreSQL, cargo-pgrx and Garage into the cache folder
	@scripts/setup.sh

install: ## build the extension and install it into the cached PostgreSQL
	@scripts/setup.sh postgres pgrx
	@scripts/install.sh

demo: ## build everything, index 10,000 definitions, ask questions in plain English
	@scripts/demo.sh run "$(STORAGE)" "$(ROWS)"

demo-shell: ## psql inside the demo's cluster, started for it and stopped at its end
	@scripts/demo.sh shell "$(STORAGE)"

test: ## all tests: engine crates, the extension in PostgreSQL, clusters with Garage
	@scripts/test.sh

fmt: ## format the Rust code
	@cargo fmt --all

lint: ## formatting and lints, warnings being errors
	@scripts/lint.sh

clean: ## remove build output and the demo's cluster, keep the tools
	@scripts/clean.sh

clean-cache: ## remove the whole cache folder
	@scripts/clean.sh cache
