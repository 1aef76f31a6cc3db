# The platforms of a release. platform.sh builds each into target/platforms/NAME.

PLATFORMS ?= linux-amd64-gnu linux-arm64-gnu linux-amd64-musl linux-arm64-musl

.PHONY: platforms
platforms: $(PLATFORMS:%=platform-%) ## libraries and sandbox for x86-64 and arm64, glibc 2.17 and musl, in target/platforms

.PHONY: $(PLATFORMS:%=platform-%)
$(PLATFORMS:%=platform-%): platform-%: .venv/zig
	packaging/platform.sh $*

.PHONY: portable
portable: ## the same for x86-64 with glibc 2.17 alone
	$(MAKE) platforms PLATFORMS=linux-amd64-gnu
