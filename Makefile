# npumoe: GNU Make 3.81 or later (macOS has 3.81). `make help` lists the targets.
#
# Every configuration lives in a folder of its own, so none of them needs `make clean`:
#   make                    build/release and build/npumoe
#   make CONFIG=debug       build/debug       -O0, assertions
#   make CONFIG=asan        build/asan        AddressSanitizer, LeakSanitizer, UBSan
#   make CONFIG=tsan        build/tsan        ThreadSanitizer
#   make CONFIG=fuzz        build/fuzz        libFuzzer + ASan + UBSan (clang)
#   make CONFIG=cov         build/cov         gcov
#   make CC=aarch64-linux-gnu-gcc kcheck      build/aarch64-release
#   make CC=clang B=build/clang               a folder for another compiler
#   make EMULATE_AMX=1      build/release-amx AMX in software, for tests without it; any CONFIG
# Knobs: CC, CFLAGS, CPPFLAGS, LDFLAGS (added last), WERROR=1, V=1, PREFIX, DESTDIR.
#
# Sources are found by wildcard: a new .c file in src/, tests/unit/ or tests/fuzz/ needs no line
# here. Suffixes of file names choose instruction sets (ISA below); nothing else does, and never
# -march=native: one binary picks its kernels at run time. Never -ffast-math either: results
# would differ between machines, and NaN checks would vanish.

CONFIG ?= release
override EMULATE_AMX := $(filter 1,$(EMULATE_AMX))
include mk/toolchain.mk

# ---- sources ---------------------------------------------------------------------------------

find_c = $(sort $(shell find $(1) -name '*.c' 2>/dev/null))

# Kernels of other architectures are not compiled, not #ifdef'ed.
ARCH_DIR_x86_64  := src/kernels/x86
ARCH_DIR_aarch64 := src/kernels/arm
FOREIGN := $(filter-out $(ARCH_DIR_$(ARCH))/%,$(call find_c,src/kernels/x86 src/kernels/arm))

ALL_SRC  := $(filter-out $(FOREIGN),$(call find_c,src))
# A matrix unit in software, for tests on processors that have none.
ifdef EMULATE_AMX
ALL_SRC  += tests/emulated/cpu.c
endif
CLI_SRC  := $(filter src/cli/%,$(ALL_SRC))
LIB_SRC  := $(filter-out src/cli/%,$(ALL_SRC))
# The part that needs libc only: what kcheck is linked with, so that it cross-compiles.
CORE_SRC := $(filter src/base/% src/quant/% src/kernels/% tests/emulated/%,$(LIB_SRC))

UNIT_SRC    := $(wildcard tests/unit/test_*.c)
TORTURE_SRC := $(wildcard tests/torture/test_*.c)
KCHECK_SRC  := $(wildcard tests/kcheck/*.c) tests/support/attention_exact.c
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
EMULATED    := $(addprefix $(B)/emulated/,test_attention test_dot test_matmul test_probe_loops)
# The trainer of the demo model is Python, and compiles its own kernels.
TOOL_SRC    := $(filter-out tools/demo-model/%,$(wildcard tools/*/*.c))
TOOLS       := $(sort $(notdir $(patsubst %/,%,$(dir $(TOOL_SRC)))))

obj = $(patsubst %.c,$(B)/%.o,$(1))

LIB_A   := $(B)/libnpumoe.a
CORE_A  := $(B)/libcore.a
PROG    := $(if $(CLI_SRC),$(B)/npumoe)
SHARED  := $(if $(filter release debug,$(CONFIG)),$(B)/$(SO_FILE))
KCHECK  := $(if $(KCHECK_SRC),$(B)/kcheck)
UNIT    := $(UNIT_SRC:%.c=$(B)/%)
TORTURE := $(TORTURE_SRC:%.c=$(B)/%)
FUZZ    := $(FUZZ_SRC:%.c=$(B)/%)
TOOLBIN := $(TOOLS:%=$(B)/%)

# ---- what people type ------------------------------------------------------------------------

.PHONY: all lib tools tests kcheck check check-asan check-tsan check-torture check-fuzz \
  emulated check-emulated check-amx check-all lint format evaluate install uninstall clean help FORCE
.DEFAULT_GOAL := all

all: lib $(PROG) tools $(if $(CLI_SRC),$(if $(filter $(B),build/release),build/npumoe))
lib: $(LIB_A) $(SHARED)
tools: $(TOOLBIN)
kcheck: $(KCHECK)
emulated: $(KCHECK) $(EMULATED)
tests: $(UNIT) $(KCHECK) $(FUZZ) $(TOOLBIN) $(PROG)

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo 'targets:'
	@sed -n 's/^\([a-z-]*\):.*##/  \1 -/p' Makefile mk/*.mk | sort

build/npumoe: build/release/npumoe
	@ln -sf release/npumoe $@

format: ## rewrites all sources with clang-format
	$(CLANG_FORMAT) -i $$(git ls-files '*.c' '*.h' | grep -v _tables)

lint: lib ## every rule of style that a script can check
	@CC='$(CC)' CLANG_FORMAT='$(CLANG_FORMAT)' sh tools/lint/lint.sh

# Three hours on a machine that does nothing else; EVALUATE adds options (tools/evaluate/README.md).
evaluate: all ## measures what plans are worth and writes docs/evaluation.md
	python3 tools/evaluate/evaluate.py build/evaluate $(EVALUATE)

clean: ## removes build/
	rm -rf build

# ---- rules -----------------------------------------------------------------------------------

AVX2   := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq
$(B)/%_avx2.o: ISA := $(AVX2)
$(B)/%_avxvnni.o: ISA := $(AVX2) -mavxvnni
$(B)/%_avx512.o: ISA := $(AVX512)
$(B)/%_avx512vnni.o: ISA := $(AVX512) -mavx512vnni
$(B)/%_avx512bf16.o: ISA := $(AVX512) -mavx512bf16
$(B)/%_amx.o: ISA := $(AVX512) -mavx512bf16 -mavx512vbmi -mamx-tile -mamx-bf16 -mamx-int8
$(B)/%_neondot.o: ISA := -march=armv8.2-a+dotprod
$(B)/%_neoni8mm.o: ISA := -march=armv8.2-a+i8mm
$(B)/%_neonbf16.o: ISA := -march=armv8.2-a+bf16
ifdef EMULATE_AMX
$(B)/%_amx.o: ISA := $(AVX512) -mavx512bf16 -mavx512vbmi -include tests/emulated/tiles.inc
$(B)/src/kernels/cpu.o: PART := -Dnm_cpu_detect=real_cpu_detect -Dnm_cpu_permit_tiles=real_cpu_permit
endif
# clang 14 needs minutes for the register blocks of gemm.inc under ASan; gcc, which builds the asan
# configuration, seconds. Fuzz targets end before any kernel runs.
ifeq ($(CONFIG),fuzz)
$(B)/src/kernels/%.o: PART := -fno-sanitize=all
endif
# Without any optimisation gcc's intrinsics are macros whose masks -Wconversion complains about, and
# every register of a kernel lives in memory.
ifneq ($(filter debug cov,$(CONFIG)),)
$(B)/src/kernels/x86/%.o: PART := -Og
endif
$(B)/src/cli/load.o: PART := -DNPUMOE_DATADIR='"$(DATADIR)"'
$(B)/src/cli/load.o: $(B)/prefix
$(B)/src/cli/build.o: PART = -DNPUMOE_BUILD_COMMIT='"$(COMMIT)"' -DNPUMOE_BUILD_NUMBER=$(COMMITS)
$(B)/src/cli/build.o: $(B)/commit
$(B)/tests/%.o: PART := -Itests $(if $(EMULATE_AMX),-DEMULATE_AMX)
$(B)/tests/fuzz/%.o: PART := -Itests -Wno-missing-prototypes

# Everything is compiled again when the compiler or its flags change.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(NM_CFLAGS) $(EMULATE_AMX)' | cmp -s - $@ || echo '$(CC) $(NM_CFLAGS) $(EMULATE_AMX)' >$@

# Where things will be installed: one object and npumoe.pc know it.
PLACES = $(PREFIX) $(LIBDIR) $(INCLUDEDIR) $(DATADIR)
$(B)/prefix: FORCE
	@mkdir -p $(@D)
	@echo '$(PLACES)' | cmp -s - $@ || echo '$(PLACES)' >$@

# Which commit this is; a tarball has none.
COMMIT  := $(or $(shell git describe --always --dirty --abbrev=9 --exclude='*' 2>/dev/null),unknown)
COMMITS := $(or $(shell git rev-list --count HEAD 2>/dev/null),0)
$(B)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT) $(COMMITS)' | cmp -s - $@ || echo '$(COMMIT) $(COMMITS)' >$@

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(NM_CFLAGS) $(DEP_CFLAGS) $(ISA) $(PART) -MMD -MP -c -o $@ $<

# An archive that only grows would keep the objects of deleted sources.
$(LIB_A): $(call obj,$(LIB_SRC))
$(CORE_A): $(call obj,$(CORE_SRC))
$(LIB_A) $(CORE_A): $(B)/flags
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(B)/$(SO_FILE): $(call obj,$(LIB_SRC))
	$(call say,LINK,$@)$(CC) $(NM_LDFLAGS) $(SO_FLAGS) -o $@ $^ $(LIBS)
	@ln -sf $(SO_FILE) $(B)/$(SO_NAME) && ln -sf $(SO_FILE) $(B)/$(SO_LINK)

link = $(call say,LINK,$@)mkdir -p $(@D) && $(CC) $(NM_LDFLAGS) $(1) -o $@ $(filter %.o,$^) \
  $(filter %.a,$^) $(LIBS)

$(B)/npumoe: $(call obj,$(CLI_SRC)) $(LIB_A)
	$(call link)
$(B)/kcheck: LIBS := $(CORE_LIBS)
$(B)/kcheck: $(call obj,$(KCHECK_SRC)) $(CORE_A)
	$(call link)
# Unit tests of kernels, with nothing but the core: for processors whose libraries are not here.
$(EMULATED): LIBS := $(CORE_LIBS)
$(EMULATED): $(B)/emulated/%: $(B)/tests/unit/%.o $(B)/tests/support/tiers.o \
  $(B)/tests/support/attention_exact.o $(CORE_A)
	$(call link)
$(UNIT) $(TORTURE): %: %.o $(call obj,$(SUPPORT_SRC)) $(LIB_A)
	$(call link)
ifeq ($(CONFIG),fuzz)
$(FUZZ): %: %.o $(LIB_A)
	$(call link,-fsanitize=fuzzer)
else
$(FUZZ): %: %.o $(call obj,tests/fuzz/replay.c) $(LIB_A)
	$(call link)
endif
define tool_rule
$(B)/$(1): $(call obj,$(filter tools/$(1)/%,$(TOOL_SRC))) $(LIB_A)
	$$(call link)
endef
$(foreach t,$(TOOLS),$(eval $(call tool_rule,$(t))))

.SECONDARY:
-include $(patsubst %.o,%.d,$(call obj,$(ALL_SRC) $(UNIT_SRC) $(TORTURE_SRC) $(KCHECK_SRC) \
  $(FUZZ_SRC) tests/fuzz/replay.c $(SUPPORT_SRC) $(TOOL_SRC)))

include mk/check.mk mk/install.mk
