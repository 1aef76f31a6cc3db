# The platforms of a release. platform.sh builds each into target/platforms/NAME. A build mostly uses one core: `make -j2`.

PLATFORMS ?= linux-amd64-gnu linux-arm64-gnu linux-amd64-musl linux-arm64-musl

.PHONY: platforms
platforms: $(PLATFORMS:%=platform-%) ## libraries and programs for x86-64 and arm64, glibc 2.17 and musl, in target/platforms

.PHONY: $(PLATFORMS:%=platform-%)
$(PLATFORMS:%=platform-%): platform-%: needs-venv needs-build .venv/zig
	packaging/platform.sh $*

.PHONY: portable
portable: needs-build ## the same for x86-64 with glibc 2.17 alone
	$(MAKE) platforms PLATFORMS=linux-amd64-gnu

.PHONY: check-macos
check-macos: .venv/zig ## whether the library compiles for macOS; nothing runs it there
	@if reason=$$(packaging/std.sh aarch64-apple-darwin); then \
	  PATH="$(BIN):$$PATH" cargo-zigbuild check --locked --lib --target aarch64-apple-darwin --target-dir target/zig/macos; \
	else echo "SKIPPED: macOS: $$reason" >&2; fi

.PHONY: cross
cross: platforms go-module check-macos sandbox .venv/zig $(GO_READY) ## the suites of the platforms: on musl, and arm64 under qemu
	PYTHONPATH=tests $(PYTHON) -m unittest discover --verbose --start-directory tests/platforms --top-level-directory tests
