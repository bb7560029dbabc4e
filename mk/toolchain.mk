# toolchain.mk: compiler, flags and libraries of one configuration.

PKG_CONFIG   ?= pkg-config
CLANG        ?= $(firstword $(foreach c,clang-14 clang,$(if $(shell command -v $(c) 2>/dev/null),$(c))) clang)
CLANG_FORMAT ?= $(firstword $(foreach c,clang-format-14 clang-format,$(if $(shell command -v $(c) 2>/dev/null),$(c))) clang-format)
ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(CONFIG)),$(CLANG),cc)
endif

# The compiler knows what it compiles for: x86_64-linux-gnu, aarch64-linux-gnu, arm64-apple-darwin.
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
$(if $(MACHINE),,$(error no working C compiler: CC is "$(CC)"; ./setup deps installs one))
cpu   = $(patsubst arm64%,aarch64,$(patsubst amd64,x86_64,$(firstword $(subst -, ,$(1)))))
ARCH := $(call cpu,$(MACHINE))
HOST := $(call cpu,$(shell uname -m))
MAC  := $(findstring darwin,$(MACHINE))
B    := build/$(if $(filter-out $(HOST),$(ARCH)),$(ARCH)-)$(CONFIG)$(if $(EMULATE_AMX),-amx)

# ---- flags -----------------------------------------------------------------------------------

OPT_release := -O2 -g -DNDEBUG
OPT_debug   := -O0 -g3 -DNM_DEBUG=1
OPT_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
OPT_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
  -fno-sanitize-recover=all
OPT_cov     := -O0 -g --coverage
$(if $(OPT_$(CONFIG)),,$(error CONFIG=$(CONFIG) is none of release debug asan tsan fuzz cov))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
  -Wvla -Wundef -Werror=implicit-function-declaration $(if $(filter 1,$(WERROR)),-Werror)
# -ffp-contract=off: a compiler must not fuse a*b+c where the source does not, or the same model
# would give different bits from different compilers. -fno-math-errno: sqrtf is one instruction.
NM_CFLAGS = -std=c11 $(if $(MAC),-D_DARWIN_C_SOURCE,-D_GNU_SOURCE) $(OPT_$(CONFIG)) $(WARN) \
  -fvisibility=hidden -fPIC -pthread -ffp-contract=off -fno-math-errno -Iinclude -Isrc \
  $(CPPFLAGS) $(CFLAGS)
NM_LDFLAGS = $(filter -fsanitize% --coverage,$(subst fuzzer-no-link$(comma),,$(OPT_$(CONFIG)))) \
  -pthread $(LDFLAGS)
CORE_LIBS := -lm
LIBS = $(DEP_LIBS) $(CORE_LIBS)
comma := ,

# ---- libraries that npumoe needs, by pkg-config name ------------------------------------------

PKGS := libpcre2-8 libutf8proc jansson
WITHOUT := clean help format kcheck emulated check-emulated uninstall
ifneq ($(filter-out $(WITHOUT),$(or $(MAKECMDGOALS),all)),)
$(if $(shell command -v $(PKG_CONFIG) 2>/dev/null),,$(error $(PKG_CONFIG) is missing; ./setup deps installs it))
MISSING := $(foreach p,$(PKGS),$(if $(shell $(PKG_CONFIG) --exists $(p) && echo y),,$(p)))
$(if $(strip $(MISSING)),$(error libraries that pkg-config does not find: $(MISSING). \
  ./setup deps installs them; or apt-get install libpcre2-dev libutf8proc-dev libjansson-dev; \
  or brew install pcre2 utf8proc jansson))
DEP_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS))
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs $(PKGS))
endif

# ---- names of the shared library --------------------------------------------------------------

VERSION := $(shell sed -n 's/.*NPUMOE_VERSION_STRING "\(.*\)".*/\1/p' include/npumoe/npumoe_version.h)
# Before 1.0 a minor version may break the ABI, so it is part of the soname.
SO_VERSION := $(shell echo $(VERSION) | sed 's/\.[0-9]*$$//')
ifneq ($(MAC),)
SO_LINK  := libnpumoe.dylib
SO_NAME  := libnpumoe.$(SO_VERSION).dylib
SO_FILE  := libnpumoe.$(VERSION).dylib
SO_FLAGS  = -dynamiclib -install_name $(LIBDIR)/$(SO_NAME)
else
SO_LINK  := libnpumoe.so
SO_NAME  := $(SO_LINK).$(SO_VERSION)
SO_FILE  := $(SO_LINK).$(VERSION)
SO_FLAGS  = -shared -Wl,-soname,$(SO_NAME) -Wl,--no-undefined
endif

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DATADIR    ?= $(PREFIX)/share/npumoe

ifeq ($(V),1)
say =
else
say = @printf '  %-4s %s\n' $(1) $(2);
endif
