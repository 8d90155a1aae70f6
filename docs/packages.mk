# packages.mk - what the programs become outside this tree: manual pages, make install, a tarball, a Debian package
# (packages.md).

man: all
	@docs/man/build.sh $(BIN) $(BUILD)/man

PLACE        = $(DESTDIR)$(PREFIX)
COMPLETIONS := share/bash-completion/completions
install: man
	install -d "$(PLACE)/bin" "$(PLACE)/share/man/man1" "$(PLACE)/$(COMPLETIONS)"
	for p in $(notdir $(PROGRAMS)); do \
	    install -m 755 "$(BIN)/$$p" "$(PLACE)/bin/quartet-$$p" && \
	    install -m 644 "$(BUILD)/man/quartet-$$p.1" "$(PLACE)/share/man/man1" && \
	    install -m 644 $(BUILD)/man/quartet.bash "$(PLACE)/$(COMPLETIONS)/quartet-$$p" || exit 1; done

uninstall:
	for p in $(notdir $(PROGRAMS)); do rm -f "$(PLACE)/bin/quartet-$$p" "$(PLACE)/share/man/man1/quartet-$$p.1" \
	    "$(PLACE)/$(COMPLETIONS)/quartet-$$p" || exit 1; done

VERSION = $(shell sed -n 's/^\#define QUARTET_VERSION "\(.*\)"/\1/p' common/base/base.h)
dist:
	@mkdir -p build
	@git -c tar.umask=0022 -c tar.tar.gz.command='gzip -9n' archive --prefix=quartet-$(VERSION)/ \
	    -o build/quartet-$(VERSION).tar.gz HEAD
	@echo build/quartet-$(VERSION).tar.gz

DEB_ARCH  := $(if $(filter file,$(origin ARCH)),$(if $(filter x86_64,$(shell uname -m)),x86-64-v3),$(ARCH))
DEB_BUILD := build/deb$(DEB_ARCH:%=-%)
deb:
	@MAKE="$(MAKE)" docs/debian/build.sh build ARCH=$(DEB_ARCH) CFLAGS=-O3 BUILD=$(DEB_BUILD) BIN=$(DEB_BUILD)/bin

.PHONY: man install uninstall dist deb
