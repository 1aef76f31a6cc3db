# The Go module with the library of each platform inside.

.PHONY: go-module
go-module: platforms ## the Go module as it is tagged, and a module proxy that serves it, in target/go-module
	@$(PYTHON) packaging/go-module/module.py
