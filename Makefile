# quantd: one Makefile, no recursion. `make help` lists the targets.
.DEFAULT_GOAL := all
SHELL := /bin/bash
BUILD ?= build
CC ?= gcc
WERROR ?= -Werror
OPT ?= -O2
DEPS ?= yes
VENV := $(BUILD)/venv
# Two at a time and more, unless -j says otherwise: the tests of the service mostly wait.
ifeq ($(findstring -j,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

PKGS := libmicrohttpd jansson sqlite3 libuv libprotobuf-c libarchive libjpeg libpng zlib nettle
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wswitch-enum -Wundef -Wvla -Wcast-qual -Wformat=2 -Wwrite-strings $(WERROR)
comma := ,
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS = $(shell pkg-config --libs $(PKGS))
CPPFLAGS += -I. -I$(BUILD)/gen -D_GNU_SOURCE $(PKG_CFLAGS)
CFLAGS += -std=c17 -g $(OPT) -ffp-contract=off -fno-math-errno -fno-trapping-math $(WARN) $(SANFLAGS)
LDFLAGS += $(SANFLAGS) -pthread
LDLIBS += $(PKG_LIBS) -lm

# Kernels: one instruction set a file, the suffix decides the flags; a processor builds its own.
# Its name is asked here, where a bare machine may have no compiler yet.
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2> /dev/null || uname -m)))
TABLE := $(or $(filter x86 aarch64,$(MACHINE:x86_64=x86)),plain)
ISAS_x86 := avx2 avxvnni avx512
ISAS_aarch64 := neon
ISA_neon := -march=armv8.2-a+dotprod
ISA_avx2 := -mavx2 -mfma -mf16c -mprfchw
ISA_avxvnni := $(ISA_avx2) -mavxvnni
ISA_avx512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni $(ISA_avx2)
isa_flags = $(ISA_$(lastword $(subst _, ,$(basename $(notdir $1)))))

FOREIGN := $(patsubst %,\%_%.c,$(filter-out $(ISAS_$(TABLE)),$(ISAS_x86) $(ISAS_aarch64))) \
           $(patsubst %,\%/table_%.c,$(filter-out $(TABLE),x86 aarch64 plain))
SRC := $(sort $(filter-out $(FOREIGN),$(wildcard daemon/*.c api/*.c store/*.c worker/*.c \
         quantcore/*.c quantcore/*/*.c)))
MAIN := daemon/daemon_main.c
GEN_C := $(BUILD)/gen/onnx/onnx.pb-c.c $(BUILD)/gen/embedded.c
LIB_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(MAIN),$(SRC))) \
           $(patsubst $(BUILD)/gen/%.c,$(BUILD)/obj/gen/%.o,$(GEN_C))
LIB := $(BUILD)/libquantd.a

TEST_SRC := $(sort $(wildcard tests/unit/test_*.c tests/kernels/test_*.c tests/lib/*.c))
TEST_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(TEST_SRC) tests/run_tests.c)
FUZZ := $(sort $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))

.PHONY: all help clean check lint
all: $(BUILD)/quantd  ## build build/quantd

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Everything that is compiled or generated waits for this stamp, so that a bare machine builds in
# one run of make, in parallel too. pkg-config is asked when a recipe runs, thus after it.
DEPS_STAMP := $(BUILD)/deps.stamp
$(DEPS_STAMP): deploy/install-deps.sh
	@mkdir -p $(@D)
	@if [ "$(DEPS)" != no ]; then deploy/install-deps.sh; fi
	@touch $@

$(BUILD)/quantd: $(BUILD)/obj/$(MAIN:.c=.o) $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

# --- generated code: ONNX messages, the files that the binary carries --------------------------
ONNX_PROTO ?= /usr/include/onnx/onnx.proto
$(ONNX_PROTO): | $(DEPS_STAMP)
	@test -r $@ || { echo "$@ is missing (Debian: libonnx-dev)" >&2; exit 1; }
$(BUILD)/gen/onnx/onnx.pb-c.c: $(ONNX_PROTO) | $(DEPS_STAMP)
	@mkdir -p $(@D)
	protoc-c --proto_path=$(dir $(ONNX_PROTO)) --c_out=$(@D) onnx.proto
$(BUILD)/gen/onnx/onnx.pb-c.h: $(BUILD)/gen/onnx/onnx.pb-c.c

EMBED := $(sort $(wildcard api/dashboard/* api/openapi.json store/migrations/*.sql))
$(BUILD)/gen/embedded.c: deploy/embed.sh $(EMBED)
	@mkdir -p $(@D)
	deploy/embed.sh $(EMBED) > $@.tmp && mv $@.tmp $@

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c | $(DEPS_STAMP)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(filter-out $(WARN),$(CFLAGS)) -w -MMD -MP -c -o $@ $<

$(BUILD)/obj/tests/%.o: WARN += -Wno-missing-prototypes -Wno-conversion -Wno-cast-qual
$(BUILD)/obj/%.o: %.c | $(BUILD)/gen/onnx/onnx.pb-c.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(call isa_flags,$<) -MMD -MP -c -o $@ $<

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

clean:  ## remove the build folder
	rm -rf $(BUILD)

# --- tests --------------------------------------------------------------------------------------
# Suites are found by file name: tests/unit/test_x.c defines test_x_suite().
$(BUILD)/gen/suites.h: $(TEST_SRC) Makefile
	@mkdir -p $(@D)
	@for f in $(filter tests/unit/% tests/kernels/%,$(TEST_SRC)); do n=$$(basename $$f .c); echo "X($$n)"; done > $@

$(BUILD)/obj/tests/run_tests.o: $(BUILD)/gen/suites.h
$(BUILD)/run_tests: $(TEST_OBJ) $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(shell pkg-config --libs check) $(LDLIBS)

.PHONY: unit
unit: $(BUILD)/run_tests $(BUILD)/quantd  ## unit tests only (SUITE=name runs one suite)
	$(if $(SUITE),CK_RUN_SUITE=$(SUITE)) $(BUILD)/run_tests

# The suites wait more than they work; `make -j2` runs two at a time. The longest come first.
SERVICE_TESTS := kill repeatable refusals events http cli requantize jobs modes external
.PHONY: check unit-all $(SERVICE_TESTS:%=suite-%)
check: unit-all $(SERVICE_TESTS:%=suite-%) replay  ## everything that needs Debian's packages alone
unit-all: $(BUILD)/run_tests $(BUILD)/quantd
	$(BUILD)/run_tests
$(SERVICE_TESTS:%=suite-%): suite-%: $(BUILD)/quantd $(BUILD)/bench_kernels
	timeout 300 tests/integration/test_$*.sh $(BUILD)/quantd

# --- parsers of untrusted bytes -----------------------------------------------------------------
# tests/fuzz/fuzz_x.c and its corpus tests/fuzz/corpus/x are found by their names. Without a
# fuzzer the corpus and some mutants of it are a test; with clang's libFuzzer the target searches.
REPLAY := $(FUZZ:%=$(BUILD)/replay/fuzz_%)
REPLAY_MUTANTS ?= 200
.SECONDARY: $(FUZZ:%=$(BUILD)/obj/tests/fuzz/fuzz_%.o) $(BUILD)/obj/tests/fuzz/replay_main.o
.PHONY: replay
$(BUILD)/replay/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay_main.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
replay: $(REPLAY)  ## the fuzz targets over their corpora and mutants of them (no fuzzer needed)
	@for x in $(FUZZ); do \
		timeout 60 $(BUILD)/replay/fuzz_$$x -m $(REPLAY_MUTANTS) tests/fuzz/corpus/$$x || exit 1; done

# The library once more, by clang and instrumented. What is found stays in $(BUILD)/fuzz: the
# corpus for the next run, inputs that failed in found/.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS ?= $(FUZZ)
FUZZ_DIR := $(BUILD)/fuzz
FUZZ_CC ?= clang
FUZZ_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_OBJ := $(patsubst $(BUILD)/obj/%,$(FUZZ_DIR)/obj/%,$(LIB_OBJ))
FUZZ_CFLAGS = -std=c17 -g -O1 -ffp-contract=off -fno-math-errno -fno-trapping-math \
              -fno-omit-frame-pointer -Wall -Wextra $(FUZZ_SAN) -fsanitize=fuzzer-no-link
FUZZ_STAMP := $(FUZZ_DIR)/deps.stamp
.PHONY: fuzz
.SECONDARY: $(FUZZ:%=$(FUZZ_DIR)/obj/tests/fuzz/fuzz_%.o)
$(FUZZ_STAMP): deploy/install-deps.sh | $(DEPS_STAMP)
	@mkdir -p $(@D)
	@if [ "$(DEPS)" != no ]; then deploy/install-deps.sh --fuzz; fi
	@touch $@
$(FUZZ_DIR)/obj/gen/%.o: $(BUILD)/gen/%.c | $(FUZZ_STAMP)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -w -MMD -MP -c -o $@ $<
$(FUZZ_DIR)/obj/%.o: %.c | $(FUZZ_STAMP) $(BUILD)/gen/onnx/onnx.pb-c.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) $(call isa_flags,$<) -MMD -MP -c -o $@ $<
$(FUZZ_DIR)/libquantd.a: $(FUZZ_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(FUZZ_DIR)/fuzz_%: $(FUZZ_DIR)/obj/tests/fuzz/fuzz_%.o $(FUZZ_DIR)/libquantd.a
	$(FUZZ_CC) $(FUZZ_SAN) -fsanitize=fuzzer -pthread -o $@ $^ $(LDLIBS)
fuzz: $(FUZZ_TARGETS:%=$(FUZZ_DIR)/fuzz_%)  ## search each parser for FUZZ_SECONDS (FUZZ_TARGETS="onnx npy"; clang)
	@mkdir -p $(FUZZ_DIR)/found
	@for x in $(FUZZ_TARGETS); do \
		log=$(FUZZ_DIR)/$$x.log; mkdir -p $(FUZZ_DIR)/corpus/$$x; \
		timeout $$(($(FUZZ_SECONDS) + 60)) $(FUZZ_DIR)/fuzz_$$x -max_total_time=$(FUZZ_SECONDS) \
			-timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
			-artifact_prefix=$(FUZZ_DIR)/found/$$x- \
			$(FUZZ_DIR)/corpus/$$x tests/fuzz/corpus/$$x > $$log 2>&1 || { \
			tail -n 60 $$log; echo "fuzz_$$x failed: $$log" >&2; exit 1; }; \
		echo "fuzz_$$x: $$(sed -nE 's/^stat::(number_of_executed_units|new_units_added): */\1 /p' $$log | xargs)"; done
-include $(shell find $(FUZZ_DIR)/obj -name '*.d' 2>/dev/null)

.PHONY: check-memory
$(BUILD)/peak_memory: $(BUILD)/obj/tests/integration/peak_memory.o
	$(CC) $(LDFLAGS) -o $@ $^
check-memory: $(BUILD)/quantd $(BUILD)/peak_memory  ## a job's memory does not grow with its samples
	timeout 600 tests/integration/test_memory.sh $(BUILD)/quantd $(BUILD)/peak_memory

.PHONY: bench
$(BUILD)/bench_kernels: $(BUILD)/obj/tests/bench/bench_kernels.o $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/bench_search: $(addprefix $(BUILD)/obj/tests/,bench/bench_search.o lib/activations.o \
                         lib/data_files.o lib/naive_search.o) $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
.PHONY: bench-search
bench-search: $(BUILD)/bench_search  ## ranges from the fine histogram beside the naive search of them
	$(BUILD)/bench_search
$(BUILD)/bench_network: $(BUILD)/obj/tests/bench/bench_network.o $(LIB)
	$(CC) $(LDFLAGS) -Wl,--wrap=qc_winograd_suits -o $@ $^ $(LDLIBS)
BENCH_PROGRAMS := $(addprefix $(BUILD)/,bench_kernels bench_network peak_memory quantd)
BENCH_PYTHON ?= $(VENV)/bin/python
BENCH_ARGS ?=
bench: $(BENCH_PROGRAMS) $(if $(filter $(VENV)/%,$(BENCH_PYTHON)),$(VENV)/bench)  ## speed beside ONNX Runtime and OpenVINO, to build/bench.json (needs PyPI; BENCH_ARGS="--only int8 resnet18")
	$(BUILD)/bench_kernels
	timeout 7200 $(BENCH_PYTHON) -B tests/bench/bench.py --build $(BUILD) $(BENCH_ARGS)
# OpenVINO is optional: without it the rows that compare with it are left out.
$(VENV)/bench: $(VENV)/stamp
	-$(VENV)/bin/pip install --quiet openvino
	@touch $@
.PHONY: bench-check
bench-check: $(BUILD)/bench_kernels  ## fails when a kernel is below its share of the CPU's peak
	$(BUILD)/bench_kernels --check

lint:  ## the rules of CONTRIBUTING.md that a script can see
	@for s in tests/lint/check_*.sh; do echo "$$s"; $$s || exit 1; done

.PHONY: demo
demo: $(BUILD)/quantd  ## quantize the Fashion-MNIST example through the service
	BUILD=$(BUILD) examples/fashion-mnist/demo.sh

# The artifact in ONNX Runtime beside the daemon's own integers. Python and its wheels come from
# PyPI into a folder of the build; INTEROP_PYTHON names an interpreter that has them already.
INTEROP_FLAGS ?=
.PHONY: check-interop
check-interop: $(BUILD)/quantd $(if $(INTEROP_PYTHON),,$(VENV)/stamp)  ## the artifact in ONNX Runtime (needs PyPI; INTEROP_FLAGS=--full)
	timeout 3600 $(or $(INTEROP_PYTHON),$(VENV)/bin/python) -B tests/interop/check_interop.py \
		--quantd $(BUILD)/quantd --work $(BUILD)/interop $(INTEROP_FLAGS)
# Every calibrator and switch on the same networks. A complete run takes some minutes and rewrites the
# committed figures; BENCH_FLAGS="--quick resnet8_cifar10" looks at 100 samples of one network.
BENCH_FLAGS ?=
.PHONY: bench-accuracy
bench-accuracy: $(BUILD)/quantd $(if $(INTEROP_PYTHON),,$(VENV)/stamp)  ## accuracy of every calibrator in ONNX Runtime (needs PyPI)
	timeout 7200 $(or $(INTEROP_PYTHON),$(VENV)/bin/python) -B tests/bench/bench_accuracy.py \
		--quantd $(BUILD)/quantd --work $(BUILD)/accuracy --output $(BUILD)/bench_accuracy.json \
		--save tests/bench/accuracy.json $(BENCH_FLAGS)
# The same recipes judged on parts of the calibration samples: what defaults are chosen by.
.PHONY: bench-defaults
bench-defaults: $(BUILD)/quantd $(if $(INTEROP_PYTHON),,$(VENV)/stamp)  ## which defaults the calibration samples alone speak for (needs PyPI)
	timeout 7200 $(or $(INTEROP_PYTHON),$(VENV)/bin/python) -B tests/bench/bench_defaults.py \
		--quantd $(BUILD)/quantd --work $(BUILD)/defaults --save tests/bench/defaults.json
# Weights of few bits, in blocks and in float16.
.PHONY: bench-bits
bench-bits: $(BUILD)/quantd $(if $(INTEROP_PYTHON),,$(VENV)/stamp)  ## size and accuracy of weight_only, bits by bits (needs PyPI)
	timeout 7200 $(or $(INTEROP_PYTHON),$(VENV)/bin/python) -B tests/bench/bench_bits.py \
		--quantd $(BUILD)/quantd --work $(BUILD)/bits --save tests/bench/bits.json
# Debian's python3 has venv without ensurepip until python3-venv is installed.
$(VENV)/stamp:
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { \
		test "$$(id -u)" = 0 || { echo "check-interop: install python3-venv" >&2; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends python3-venv < /dev/null; }
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet onnx onnxruntime numpy pillow
	@touch $@

# The same sources by the cross compiler, all unit tests in an emulator. Its libraries come from
# Debian's arm64 packages into a folder of the build.
.PHONY: check-neon
check-neon: $(BUILD)/quantd  ## the unit tests and an artifact on emulated 64-bit ARM (installs a cross compiler and qemu)
	@if [ "$(DEPS)" != no ]; then deploy/install-deps.sh --arm64; fi
	timeout 1200 tests/lib/check_neon.sh $(BUILD)

.PHONY: check-fresh
SUITES ?= bookworm
check-fresh:  ## both commands of README on a bare Debian (SUITES="bookworm trixie"; as root)
	tests/lib/check_fresh.sh $(SUITES)

# --- installation: PREFIX, SYSCONFDIR, UNITDIR; DESTDIR for packagers ---------------------------
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
.PHONY: install
install: $(BUILD)/quantd  ## binary, example configuration, systemd unit (DESTDIR=, PREFIX=)
	install -D -m 755 $(BUILD)/quantd $(DESTDIR)$(PREFIX)/bin/quantd
	test -e $(DESTDIR)$(SYSCONFDIR)/quantd.conf || \
		install -D -m 644 deploy/quantd.conf $(DESTDIR)$(SYSCONFDIR)/quantd.conf
	install -d $(DESTDIR)$(UNITDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@SYSCONFDIR@|$(SYSCONFDIR)|' deploy/quantd.service \
		> $(DESTDIR)$(UNITDIR)/quantd.service

.PHONY: run
run: $(BUILD)/quantd  ## start the daemon on loopback with its data below your home folder
	@mkdir -p "$${XDG_STATE_HOME:-$$HOME/.local/state}"
	$(BUILD)/quantd serve --data "$${XDG_STATE_HOME:-$$HOME/.local/state}/quantd"
