# The reference of what programs call, from the sources. A warning is an error. Go's is what pkg.go.dev makes of the package.

DOCS := target/docs

.PHONY: docs
docs: docs-c docs-python ## write the reference of the C, C++ and Python interfaces into target/docs

.PHONY: docs-c
docs-c: needs-docs
	rm -rf $(DOCS)/c && mkdir -p $(DOCS)
	VERSION=$(VERSION) PYTHON='$(PYTHON)' doxygen packaging/reference/Doxyfile

.PHONY: docs-python
docs-python: export PYTHONPATH := bindings/python/src
docs-python: export SPIKE_AUTH_LIBRARY := $(CURDIR)/$(SHARED)
docs-python: shared .venv/pdoc
	rm -rf $(DOCS)/python
	$(BIN)/python -B packaging/reference/python.py $(DOCS)/python

.venv/pdoc: .venv/python
	$(PIP) install 'pdoc==16.*'
	@touch $@
