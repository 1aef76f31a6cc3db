# What is handed to users without a checkout, and the notices that go with it.

.PHONY: dist
dist: needs-dist pack ## tarballs, wheels and Debian packages for all platforms, in target/dist; each is tried out
	PYTHONPATH=tests $(BIN)/python -m unittest -v tests/test_dist.py tests/test_wheel.py

.PHONY: pack
pack: platforms .venv/python
	@$(BIN)/python packaging/dist.py $(PLATFORMS)

.PHONY: wheel
wheel: needs-wheel ## those for x86-64 with glibc 2.17 alone, such as a wheel of the Python binding for manylinux
	@$(MAKE) --no-print-directory pack PLATFORMS=linux-amd64-gnu

# The results are committed, because the tools take minutes to compile and only Cargo.lock changes the notices.
# tests/test_notices.py says when they are stale.
NOTICES := packaging/notices
.PHONY: notices
notices: .venv/notices ## the licences of all crates, and the bills of materials, in packaging/notices
	$(call licences,Cargo.toml,THIRD_PARTY_LICENSES)
	$(call licences,tests/sandbox/Cargo.toml,THIRD_PARTY_LICENSES.sandbox)
	$(BIN)/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --no-build-deps --target $(TRIPLE)
	$(call bill,.,spike_auth)
	$(call bill,tests/sandbox,spike-auth-sandbox)

# The tree of crates is the same for all platforms of a release, which the test compares.
TRIPLE := x86_64-unknown-linux-gnu
licences = $(BIN)/cargo-about generate --locked --fail -c $(NOTICES)/about.toml -m $(1) -o $(NOTICES)/$(2) $(NOTICES)/about.hbs
bill = $(CARGO) tree --locked -p $(2) -e normal --target $(TRIPLE) --prefix none --format '{p}' | \
  sed -E 's/^(\S+) v(\S+).*/\1 \2/' | sort -u | \
  xargs -d '\n' $(PYTHON) packaging/bill.py $(1)/$(2).cdx.json $(NOTICES)/$(2).cdx.json && rm $(1)/$(2).cdx.json

.venv/notices: .venv/made
	$(CARGO) install --quiet --locked --root .venv cargo-about@0.9.3 cargo-cyclonedx@0.5.9
	@touch $@
