# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into one
# cache folder outside the checkout (S3VECTOR_CACHE) and leave nothing running.

.DEFAULT_GOAL := help
.PHONY: help setup install demo demo-shell dictionary retriever test soak bench fmt lint clean clean-cache

# Where the demo stores vectors: file or s3 (a Garage server that it starts itself).
STORAGE ?= file
# How many definitions the demo loads.
ROWS ?= 10000
# What demo-shell runs; without it, an interactive psql.
SQL ?=
export SQL
# Anything: the benchmark takes five minutes instead of an hour, and leaves the docs as they are.
QUICK ?=
# A folder with the embedded WordNet (wordnet_base.npy, wordnet_query.npy); without it, it is embedded anew.
DATA ?=
# Further arguments of benches/bench.py.
ARGS ?=
# How long each of the tests of `make soak` goes on.
SOAK_SECONDS ?= 3600
# Where the dictionary listens, on loopback; 0 is any free port.
PORT ?= 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo [STORAGE=file|s3] [ROWS=10000]"
	@echo "  make demo-shell [STORAGE=file|s3] [SQL='SELECT …']"
	@echo "  make dictionary [PORT=8080]"
	@echo "  make soak [SOAK_SECONDS=3600]"
	@echo "  make bench [QUICK=1] [DATA=folder] [ARGS='--only wordnet']"

setup: ## install all that builds and tests need, most of it into the cache folder
	@scripts/setup.sh

install: ## build the extension and install it into the cached PostgreSQL
	@scripts/setup.sh postgres pgrx
	@scripts/install.sh

demo: ## build everything, index 10,000 definitions, ask questions in plain English
	@scripts/demo.sh run "$(STORAGE)" "$(ROWS)"

demo-shell: ## psql inside the demo's cluster, started for it and stopped at its end
	@scripts/demo.sh shell "$(STORAGE)"

dictionary: ## a web page that finds words by their meaning, on a PostgreSQL of its own
	@scripts/example.sh dictionary --port "$(PORT)"

retriever: ## a LangChain retriever that answers questions, on a PostgreSQL of its own
	@scripts/example.sh retriever

test: ## all tests: engine, extension in PostgreSQL, clusters with Garage, clients, a browser
	@scripts/test.sh

soak: ## clients among failures and random plans, an hour each
	@scripts/soak.sh "$(SOAK_SECONDS)"

bench: ## measure this index beside pgvector's and a library, write docs/benchmarks.md
	@scripts/bench.sh "$(QUICK)" "$(DATA)" $(ARGS)

fmt: ## format the Rust code
	@cargo fmt --all

lint: ## formatting and lints, warnings being errors
	@scripts/lint.sh

clean: ## remove build output and the demo's cluster, keep the tools
	@scripts/clean.sh

clean-cache: ## remove the whole cache folder
	@scripts/clean.sh cache
