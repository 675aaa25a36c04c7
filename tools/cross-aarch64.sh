#!/bin/sh
# Builds for 64-bit Arm with the distribution's cross compiler and runs the unit and operation tests under qemu.
# The Arm libraries are downloaded as packages and unpacked below the build folder; nothing is installed.
#   tools/cross-aarch64.sh BUILD
set -eu
build=${1:-build-aarch64}
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$build"
build=$(cd "$build" && pwd)
root=$build/sysroot
libs="libjansson4 libjansson-dev libyaml-0-2 libyaml-dev libpcre2-8-0 libpcre2-dev libutf8proc2 libutf8proc-dev libxxhash0 libxxhash-dev zlib1g zlib1g-dev libzstd1 libzstd-dev libprotobuf-c1 libprotobuf-c-dev libcmocka0 libcmocka-dev"
if [ ! -f "$root/.complete" ]; then
    mkdir -p "$build/apt/lists/partial" "$build/apt/cache/archives/partial" "$build/debs" "$root"
    o="-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$build/apt/lists -oDir::Cache=$build/apt/cache -oAPT::Sandbox::User=root"
    # shellcheck disable=SC2086
    if ! { apt-get $o update > /dev/null && (cd "$build/debs" && apt-get $o download $libs > /dev/null); }; then
        echo "cross-aarch64: the Arm libraries could not be downloaded from the distribution." >&2
        echo "  Needed once: $libs" >&2
        echo "  Check the network, or put their arm64 .deb files into $build/debs and unpack each with 'dpkg -x FILE $root'," >&2
        echo "  then 'touch $root/.complete'." >&2
        exit 1
    fi
    for d in "$build"/debs/*.deb; do
        dpkg -x "$d" "$root"
    done
    touch "$root/.complete"
fi
cat > "$build/toolchain.cmake" <<T
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH $root $root/usr)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_LIBRARY_PATH $root/usr/lib/aarch64-linux-gnu $root/lib/aarch64-linux-gnu)
set(CMAKE_INCLUDE_PATH $root/usr/include)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,$root/lib/aarch64-linux-gnu -Wl,-rpath-link,$root/usr/lib/aarch64-linux-gnu")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=/lib:$root/lib/aarch64-linux-gnu:$root/usr/lib/aarch64-linux-gnu)
T
cmake -S "$top" -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$build/toolchain.cmake" -DFATHOM_DNNL=OFF ${CMAKE_ARGS:-} > /dev/null
cmake --build "$build" -j "${JOBS:-2}"
# Emulation is 10 to 30 times slower: two threads, the large cases in part (tests/quick.h), and of the layers above io
# only what runs NEON kernels end to end. Those layers have no code for an architecture.
FATHOM_THREADS=2 FATHOM_TEST_QUICK=1 sh "$top/tools/run-tests.sh" "$build" '^unit\.(base|backend|cpu|tensor|text|io|nn)|^unit\.model\.test_golden|^ops\.check|^fuzz' \
    'test_template|test_jinja'
