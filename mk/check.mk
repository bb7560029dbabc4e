# check.mk: the test tiers of TESTING.md. Test programs speak TAP; tests/run counts them.

CLI_TESTS := $(wildcard tests/cli/*.sh tests/cli/*.t)
# Torture tests take longer and some need root or cgroups, so they are a tier of their own.
TORTURE_SH := $(wildcard tests/torture/*.sh)
SAN_ENV := ASAN_OPTIONS=detect_leaks=$(if $(MAC),0,1):allocator_may_return_null=1:strict_string_checks=1 \
  UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
TEST_ENV = NPUMOE='$(B)/npumoe' NPUMOE_BUILD='$(B)' NPUMOE_CONFIG='$(CONFIG)' $(SAN_ENV)
RUN = $(TEST_ENV) sh tests/run
FUZZ_SECONDS ?= 20
CROSS_ARM ?= aarch64-linux-gnu-gcc
EMULATE := tests/kcheck/run-emulated.sh

check: tests ## T0: unit tests, kernels, CLI, saved fuzz inputs; no model files
	@$(RUN) $(UNIT) $(KCHECK) $(if $(PROG),$(CLI_TESTS)) $(FUZZ_REPLAY)

check-asan: ## T1: the same under AddressSanitizer, LeakSanitizer and UBSan
	@$(MAKE) --no-print-directory CONFIG=asan check

check-tsan: ## T1: the same under ThreadSanitizer
	@$(MAKE) --no-print-directory CONFIG=tsan check

check-torture: tests $(TORTURE) ## T2: failing allocations, memory limits, broken files, Ctrl-C
	@$(RUN) $(TORTURE) $(if $(PROG),$(TORTURE_SH))

# In a fuzz build the targets are libFuzzer programs; everywhere else they replay files.
FUZZ_REPLAY := $(if $(filter fuzz,$(CONFIG)),,$(FUZZ))
fuzz_dirs = $(wildcard tests/fuzz/corpus/$(patsubst fuzz_%,%,$(notdir $(1))))
fuzz_one = mkdir -p $(1).corpus && $(SAN_ENV) $(1) -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 \
  -timeout=10 -print_final_stats=1 -artifact_prefix=$(1).crash- $(1).corpus $(call fuzz_dirs,$(1))

check-fuzz: ## T2: replays saved inputs under ASan, then fuzzes FUZZ_SECONDS a target (clang)
	@$(MAKE) --no-print-directory CONFIG=asan fuzz-replay
	@if command -v $(CLANG) >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory CONFIG=fuzz CC='$(CLANG)' fuzz-run; \
	else echo 'check-fuzz: no clang, saved inputs were replayed only'; fi
fuzz-replay: $(FUZZ)
	@$(RUN) $(FUZZ)
fuzz-run: $(FUZZ)
	@set -e; $(foreach f,$(FUZZ),echo '== $(f)'; $(call fuzz_one,$(f));) :

# Kernels on CPUs that this machine is not: old x86 finds instructions that leaked into the lowest
# tiers (lint isa finds the others), arm64 has NEON.
check-emulated: $(KCHECK) $(EMULATED) ## T2: kernels under qemu: old x86, AVX2-only x86, arm64
	@if command -v $(CROSS_ARM) >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory CC='$(CROSS_ARM)' LDFLAGS=-static WERROR=1 emulated; fi
	@NPUMOE_TEST_SECONDS=$${NPUMOE_TEST_SECONDS:-3600} $(RUN) \
	  $(foreach c,Haswell Nehalem,'$(EMULATE) $(c) $(KCHECK)') \
	  $(foreach c,max cortex-a76 cortex-a72,'$(EMULATE) $(c) build/aarch64-release/kcheck')

# The whole of T0 with the tiles of AMX in software (tests/emulated): for processors with AVX-512 and no AMX.
check-amx: ## T2: T0 with AMX emulated; needs AVX-512
	@$(MAKE) --no-print-directory EMULATE_AMX=1 B='$(patsubst %-amx,%,$(B))-amx' check

check-all: lint ## lint and every tier that needs no model files
	@$(MAKE) --no-print-directory check check-torture
	@$(MAKE) --no-print-directory check-asan
	@$(MAKE) --no-print-directory CONFIG=asan check-torture
	@$(MAKE) --no-print-directory check-tsan
	@$(MAKE) --no-print-directory check-fuzz check-emulated check-amx

# One unit test: make t-gguf
t-%: $(B)/tests/unit/test_% ; @$(TEST_ENV) $<

.PHONY: fuzz-replay fuzz-run
