# What is handed to users without a checkout, and the notices that go with it.

.PHONY: dist
dist: pack ## tarballs, wheels and Debian packages for all platforms, in target/dist; each is tried out
	PYTHONPATH=tests $(BIN)/python -m unittest -v tests/test_dist.py tests/test_wheel.py

.PHONY: pack
pack: needs-dist platforms .venv/python
	@$(BIN)/python packaging/dist.py $(PLATFORMS)

.PHONY: wheel
wheel: needs-wheel ## those for x86-64 with glibc 2.17 alone, such as a wheel of the Python binding for manylinux
	@$(MAKE) --no-print-directory pack PLATFORMS=linux-amd64-gnu

# The results are committed, because the tools take minutes to compile and notices change only with Cargo.lock.
# tests/test_notices.py says when they are stale. The lines that name the time and this folder are left out.
NOTICES := packaging/notices
.PHONY: notices
notices: .venv/notices ## the licences of all crates, and the bills of materials, in packaging/notices
	$(BIN)/cargo-about generate --locked --fail -c $(NOTICES)/about.toml -o $(NOTICES)/THIRD_PARTY_LICENSES \
	  -m Cargo.toml $(NOTICES)/about.hbs
	$(BIN)/cargo-about generate --locked --fail -c $(NOTICES)/about.toml -o $(NOTICES)/THIRD_PARTY_LICENSES.sandbox \
	  -m tests/sandbox/Cargo.toml $(NOTICES)/about.hbs
	$(BIN)/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --no-build-deps --target x86_64-unknown-linux-gnu
	for file in spike_auth.cdx.json tests/sandbox/spike-auth-sandbox.cdx.json; do \
	  sed -e '/"timestamp":/d; /"serialNumber":/d' -e 's|path+file://[^#"]*#|cargo:|; s|?download_url=file://[^"#]*||' \
	    $$file > $(NOTICES)/$${file##*/}; rm $$file; \
	done

.venv/notices: .venv/made
	$(CARGO) install --quiet --locked --root .venv cargo-about@0.9.3 cargo-cyclonedx@0.5.9
	@touch $@
