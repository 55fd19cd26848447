# Every command a developer needs. Each installs what it lacks (deploy/install, as root or by sudo) and can be run again.
# CARGO_TARGET_DIR is honoured.

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
CARGO ?= cargo
RELEASE = $(CARGO_TARGET_DIR)/release

.PHONY: help demo demo-kill build test test-fast sim chaos bench fmt lint
.DEFAULT_GOAL := help

help: ## this list
	@echo 'Tandem: a telephone switch for Internet telephony providers, one binary on three nodes.'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: build ## three nodes on this machine, in the foreground (DIR=./demo-data, FILE=apply.yaml)
	@exec $(RELEASE)/tandem demo $(if $(DIR),--dir '$(DIR)') $(if $(FILE),--file '$(FILE)')

demo-kill: build ## ten calls talk, their node is killed, and a plain account says what happened to each
	$(CARGO) build --release --quiet -p tandem-chaos-process --bin tandem-chaos
	@exec $(RELEASE)/tandem-chaos demo-kill --program $(RELEASE)/tandem

build: ## the release binary
	@deploy/install/build.sh
	$(CARGO) build --release --bin tandem

test: ## everything: format, lints, unit, simulation, end to end with SIPp and baresip
	@deploy/install/build.sh
	@deploy/install/tools.sh
	@deploy/install/phones.sh
	@tests/run all

test-fast: ## the part of the tests without outside programs
	@deploy/install/build.sh
	@tests/run fast

sim: ## the simulations, with 400 seeds of real nodes (NODES_SEEDS=n: so many); SEED=n runs that one alone
	@deploy/install/build.sh
	@tests/run sim

chaos: ## real processes: all of chaos/scripts into chaos-report/index.html (SEED=n), and 200 leaders killed in a row
	@deploy/install/build.sh
	@deploy/install/chaos.sh
	@tests/run chaos

bench: ## figures beside Kamailio, rtpengine and etcd, into FIGURES.md (BENCH_QUICK=1: a short run)
	@deploy/install/build.sh
	@deploy/install/bench.sh
	$(CARGO) build --release -p tandem -p tandem-phones --bins
	$(CARGO) build --release -p tandem-phones -p tandem-cluster --example etcd_commits --example commits --example failover --example storage
	@bench/run.sh

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## what the tests check of form: format and clippy
	@tests/run lint
