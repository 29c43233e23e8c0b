# Headwater's commands. Each is one line here and one script in scripts/.
# HEADWATER_CACHE holds all that is built or fetched: target/, target-nocxx/, jars/, soak/.
HEADWATER_CACHE ?= $(HOME)/.cache/headwater
export HEADWATER_CACHE
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test soak bench fmt lint doc sim check clean-cache

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Run the agent platform under load (DEMO_SECONDS=n ends by itself; DEMO=analytics: the rollups)
	@scripts/deps.sh build
	@scripts/demo.sh

test: ## Run every proof in stages and print the time each took (STAGE="lint suites" runs some)
	@scripts/test.sh $(STAGE)

soak: ## Run the repeated proofs at full count, in resumable parts (SOAK_PARTS=n stops after n)
	@scripts/deps.sh build test
	@scripts/soak.sh

bench: ## Run the benches, one JSON line each, without assertions in our crates (BENCH=name for one)
	@scripts/deps.sh build
	@scripts/bench.sh $(BENCH)

fmt: ## Format the code
	@scripts/cargo.sh fmt --all

lint: ## Check the format and run clippy, warnings denied
	@scripts/deps.sh build
	@scripts/cargo.sh fmt --all -- --check
	@scripts/cargo.sh clippy --release --workspace --all-targets -- -D warnings

doc: ## Build the API documentation, warnings denied
	@scripts/deps.sh build
	@RUSTDOCFLAGS="-D warnings" scripts/cargo.sh doc --release --workspace --no-deps

sim: ## Replay one seed of the simulator and print its trace (SEED=n)
	@scripts/deps.sh build
	@HEADWATER_SEED="$(or $(SEED),1)" scripts/cargo.sh test --release --workspace --test simulation -- --nocapture

check: ## Type-check without C++, the quick loop
	@scripts/cargo.sh --nocxx check --release --workspace --exclude headwater-benches --all-targets --no-default-features

clean-cache: ## Delete what was built and fetched under HEADWATER_CACHE
	@rm -rf "$(HEADWATER_CACHE)/target" "$(HEADWATER_CACHE)/target-nocxx" "$(HEADWATER_CACHE)/jars" "$(HEADWATER_CACHE)/soak" "$(HEADWATER_CACHE)/demo"
	@echo "deleted target, target-nocxx, jars and soak under $(HEADWATER_CACHE)"
