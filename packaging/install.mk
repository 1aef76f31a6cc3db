# Where the parts go in a prefix, and the files that lead a compiler to them.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=

# The last two start the sandbox, for the tests of users.
HEADERS := include/spike_auth.h include/spike_auth.hpp include/spike_auth_sandbox.h include/spike_auth_sandbox.hpp

.PHONY: install
install: all ## install libraries, headers, pkg-config file, CMake package and program (PREFIX=, DESTDIR=)
	@$(MAKE) --no-print-directory place

# The only recipe for what goes where. `make dist` calls it with the libraries of each platform.
.PHONY: place
place: PC = $(DESTDIR)$(LIBDIR)/pkgconfig
place: CMAKE = $(DESTDIR)$(LIBDIR)/cmake/spike_auth
place:
	install -d $(PC) $(CMAKE) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1
	install -m 755 $(PROGRAM) $(DESTDIR)$(BINDIR)/spike-auth
	install -m 644 cli/spike-auth.1 $(DESTDIR)$(MANDIR)/man1
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)/libspike_auth.so.$(VERSION)
	ln -sf libspike_auth.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libspike_auth.so.$(ABI)
	ln -sf libspike_auth.so.$(ABI) $(DESTDIR)$(LIBDIR)/libspike_auth.so
	install -m 644 $(ARCHIVE) $(DESTDIR)$(LIBDIR)/libspike_auth.a
	install -m 644 $(HEADERS) $(DESTDIR)$(INCLUDEDIR)
	$(call fill,$(call below,$${pcfiledir}/..,$(PREFIX)),$${pcfiledir}/..,$(call headers,$${prefix})) \
	  packaging/spike_auth.pc.in > $(PC)/spike_auth.pc
	$(call fill,,../..,$(call headers,$(call below,../..,$(PREFIX)))) \
	  packaging/spike_auth-config.cmake.in > $(CMAKE)/spike_auth-config.cmake
	$(call fill) packaging/spike_auth-config-version.cmake.in > $(CMAKE)/spike_auth-config-version.cmake

# A program for tests, so not a part of `install`.
.PHONY: install-sandbox
install-sandbox: needs-build ## install spike-auth-sandbox, the stand-in for the service (same PREFIX=, DESTDIR=)
	$(CARGO) build --release --locked -p spike-auth-sandbox
	@$(MAKE) --no-print-directory place-sandbox

.PHONY: place-sandbox
place-sandbox:
	install -d $(DESTDIR)$(BINDIR)
	install -m 755 $(RELEASE)/spike-auth-sandbox $(DESTDIR)$(BINDIR)

.PHONY: uninstall
uninstall: ## remove the installed files (same PREFIX=, DESTDIR=)
	rm -f $(DESTDIR)$(LIBDIR)/libspike_auth.so $(DESTDIR)$(LIBDIR)/libspike_auth.so.$(ABI) \
	      $(DESTDIR)$(LIBDIR)/libspike_auth.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libspike_auth.a \
	      $(DESTDIR)$(LIBDIR)/pkgconfig/spike_auth.pc $(HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%) \
	      $(DESTDIR)$(BINDIR)/spike-auth-sandbox \
	      $(DESTDIR)$(BINDIR)/spike-auth $(DESTDIR)$(MANDIR)/man1/spike-auth.1
	rm -rf $(DESTDIR)$(LIBDIR)/cmake/spike_auth

# $(call fill,PREFIX,LIBDIR,INCLUDEDIR) fills in a template. -lgcc_s of rustc's list is left out: the compiler adds
# its unwinder itself, and that is libgcc_eh.a with -static.
fill = sed -e 's|@PREFIX@|$(1)|; s|@LIBDIR@|$(2)|; s|@INCLUDEDIR@|$(3)|; s|@VERSION@|$(VERSION)|; s|@ABI@|$(ABI)|' \
  -e "s|@NATIVE@|$$(sed 's/-lgcc_s *//' $(NATIVE))|"

# A prefix can be moved: a path in it is relative to the file that names it. One outside of the prefix is absolute.
# $(call below,LIB,PREFIX) is the way from LIB, which is LIBDIR, up to the prefix.
below = $(if $(inside),$(1)/$(subst $() ,/,$(patsubst %,..,$(subst /, ,$(inside)))),$(2))
inside = $(patsubst $(PREFIX)/%,%,$(filter $(PREFIX)/%,$(LIBDIR)))
headers = $(patsubst $(PREFIX)/%,$(1)/%,$(INCLUDEDIR))
