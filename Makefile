# What people type. The build itself is in CMakeLists.txt.
BUILD ?= build
JOBS  ?= $(shell nproc)
CMAKE_ARGS ?=
PREFIX ?= /usr/local
CLANG = -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DFATHOM_WERROR=ON

.PHONY: all configure demo test bench interop check layers format-check tidy configure-asan asan tsan fuzz cross install uninstall clean

all: configure
	@cmake --build $(BUILD) -j $(JOBS)

configure:
	@tools/install-deps.sh build
	@[ -f $(BUILD)/build.ninja ] || cmake -S . -B $(BUILD) -G Ninja $(CMAKE_ARGS) > /dev/null

# The main job on bundled real data: check, pack, tokenizer, train, evaluate, talk.
demo: all
	@sh recipes/demo.sh $(BUILD)/fathom

test:
	@tools/install-deps.sh test
	@cmake -S . -B $(BUILD) -G Ninja -DFATHOM_TESTS=ON $(CMAKE_ARGS) > /dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@sh tools/run-tests.sh $(BUILD)

bench: all
	@sh bench/run.sh $(BUILD)/fathom

# Outside witnesses, in a virtual environment under tests/interop. Not part of CI.
interop: all
	@sh tests/interop/run.sh $(BUILD)/fathom

check: layers format-check tidy asan tsan fuzz

layers:
	@sh tools/check-layers.sh

format-check:
	@tools/install-deps.sh check
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

# The sources built once per instruction set are left out: their functions are macros of it.
tidy: configure-asan
	@JOBS=$(JOBS) sh tools/tidy.sh $(BUILD)-asan $$(git ls-files 'src/*.c' | grep -v /simd/)

configure-asan:
	@tools/install-deps.sh check
	@cmake -S . -B $(BUILD)-asan $(CLANG) -DCMAKE_BUILD_TYPE=Debug -DFATHOM_SANITIZE=address,undefined > /dev/null

# Leaks are looked for too. FATHOM_TEST_QUICK: tests/quick.h.
asan: configure-asan
	@cmake --build $(BUILD)-asan -j $(JOBS)
	@UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 FATHOM_TEST_QUICK=1 \
	    sh tools/run-tests.sh $(BUILD)-asan . '^kill'

# Threads share data in the pool, kernels, tokenizer and trainer.
tsan:
	@tools/install-deps.sh check
	@cmake -S . -B $(BUILD)-tsan $(CLANG) -DCMAKE_BUILD_TYPE=Debug -DFATHOM_SANITIZE=thread > /dev/null
	@cmake --build $(BUILD)-tsan -j $(JOBS)
	@FATHOM_TEST_QUICK=1 sh tools/run-tests.sh $(BUILD)-tsan \
	    '^unit\.(base|cpu|text|data|train|infer)|^ops\.(check|rows)|^cli\.life' 'test_failures|test_kernels_(ref|table)|test_template|test_jinja'

fuzz:
	@tools/install-deps.sh check
	@cmake -S . -B $(BUILD)-fuzz $(CLANG) -DFATHOM_FUZZ=ON -DFATHOM_SANITIZE=address,undefined -DFATHOM_TESTS=OFF > /dev/null
	@cmake --build $(BUILD)-fuzz -j $(JOBS) --target fuzz
	@sh fuzz/run.sh $(BUILD)-fuzz $${FUZZ_SECONDS:-20}

# 64-bit Arm: builds the core and runs its unit tests under emulation.
cross:
	@tools/install-deps.sh cross
	@sh tools/cross-aarch64.sh $(BUILD)-aarch64

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

uninstall:
	@sh tools/uninstall.sh $(BUILD)/install_manifest.txt

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-aarch64
