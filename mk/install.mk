# install.mk: PREFIX and DESTDIR as everywhere. Only release builds are installed.

INSTALL ?= install
PC := $(B)/npumoe.pc
MODELS := $(wildcard models/*.gguf)
HEADERS := $(wildcard include/npumoe/*)

$(PC): npumoe.pc.in $(B)/prefix
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|@VERSION@|$(VERSION)|' -e 's|@PKGS@|$(PKGS)|' $< >$@

$(if $(EMULATE_AMX),$(if $(filter install,$(MAKECMDGOALS)),$(error an emulated matrix unit is for tests; leave out EMULATE_AMX)))

install: all $(PC) ## program, library, header, pkg-config file, man page, demo model
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(LIBDIR)/pkgconfig' \
	  '$(DESTDIR)$(INCLUDEDIR)/npumoe' '$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(DATADIR)'
	$(if $(PROG),$(INSTALL) -m 755 $(PROG) '$(DESTDIR)$(BINDIR)')
	$(INSTALL) -m 644 $(LIB_A) '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 755 $(B)/$(SO_FILE) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(SO_FILE) '$(DESTDIR)$(LIBDIR)/$(SO_NAME)'
	ln -sf $(SO_FILE) '$(DESTDIR)$(LIBDIR)/$(SO_LINK)'
	$(INSTALL) -m 644 $(HEADERS) '$(DESTDIR)$(INCLUDEDIR)/npumoe'
	$(INSTALL) -m 644 $(PC) '$(DESTDIR)$(LIBDIR)/pkgconfig'
	$(INSTALL) -m 644 docs/man/npumoe.1 '$(DESTDIR)$(MANDIR)/man1'
	$(if $(MODELS),$(INSTALL) -m 644 $(MODELS) '$(DESTDIR)$(DATADIR)')

# Files by name, folders of our own only if nothing else is in them.
uninstall: ## removes what install put there
	rm -f '$(DESTDIR)$(BINDIR)/npumoe' '$(DESTDIR)$(LIBDIR)/libnpumoe.a' \
	  $(foreach f,$(SO_FILE) $(SO_NAME) $(SO_LINK),'$(DESTDIR)$(LIBDIR)/$(f)') \
	  '$(DESTDIR)$(LIBDIR)/pkgconfig/npumoe.pc' '$(DESTDIR)$(MANDIR)/man1/npumoe.1'
	rm -f $(foreach f,$(notdir $(HEADERS)),'$(DESTDIR)$(INCLUDEDIR)/npumoe/$(f)') \
	  $(foreach f,$(notdir $(MODELS)),'$(DESTDIR)$(DATADIR)/$(f)')
	@rmdir '$(DESTDIR)$(INCLUDEDIR)/npumoe' '$(DESTDIR)$(DATADIR)' 2>/dev/null || :
