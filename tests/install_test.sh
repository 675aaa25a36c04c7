#!/bin/sh
# Installs into a temporary prefix, uses what is there as a stranger would, and removes it again.
#   tests/install_test.sh BUILD SOURCE
set -eu
build=$1
top=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
die() { echo "FAILED: $*" >&2; exit 1; }
prefix=$tmp/usr

# A component has a manifest of its own, so that one of the user's is not replaced.
cmake --install "$build" --prefix "$prefix" --component Unspecified > "$tmp/log" 2>&1 || { cat "$tmp/log"; die "install"; }
manifest=$build/install_manifest_Unspecified.txt
[ -s "$manifest" ] || die "no $manifest"

# The program runs, needs nothing from the build folder, and starts without the libraries that are loaded on demand.
"$prefix/bin/fathom" --help > "$tmp/help" || die "fathom --help"
if command -v ldd > /dev/null; then
    ldd "$prefix/bin/fathom" > "$tmp/ldd"
    ! grep -q 'not found' "$tmp/ldd" || { cat "$tmp/ldd"; die "a library is missing"; }
    ! grep -qE 'dnnl|gomp|stdc\+\+' "$tmp/ldd" || { cat "$tmp/ldd"; die "a library that should load on demand is linked"; }
    ! grep -qF "$build" "$tmp/ldd" || die "the installed program uses the build folder"
fi

# A program of ten lines through pkg-config.
cat > "$tmp/x.c" << 'C'
#include <stdio.h>
#include <fathom/generate.h>
int main(void) {
    fm_sampling s = fm_sampling_default();
    fm_model *m = NULL;
    fm_model_options o = {.size = sizeof o};
    fm_status st = fm_model_open(&m, "/nonexistent", &o);
    printf("%s %s\n", s.size == sizeof s ? "ok" : "bad", st != FM_OK && fm_error_get().message[0] ? "refused" : "bad");
    return 0;
}
C
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name fathom.pc)")
# shellcheck disable=SC2046
cc -std=c17 -Wall -Wextra -Wpedantic -Werror "$tmp/x.c" -o "$tmp/x" $(pkg-config --cflags --libs fathom) || die "compile"
libdir=$(pkg-config --variable=libdir fathom)
[ "$(LD_LIBRARY_PATH=$libdir "$tmp/x")" = "ok refused" ] || die "a program with the installed library"
# Each public header by itself, in C and in C++.
for h in "$prefix"/include/fathom/*.h; do
    echo "#include <fathom/$(basename "$h")>" > "$tmp/h.c"
    # shellcheck disable=SC2046
    cc -std=c17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only $(pkg-config --cflags fathom) "$tmp/h.c" || die "$h alone"
    # shellcheck disable=SC2046
    c++ -x c++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags fathom) "$tmp/h.c" || die "$h in C++"
done

# Manual pages: one for the program, one per command, without warnings.
n=0
for m in "$prefix"/share/man/man1/*.1; do
    n=$((n + 1))
    if command -v mandoc > /dev/null; then
        mandoc -T lint -W warning "$m" || die "$m"
    elif command -v man > /dev/null && command -v groff > /dev/null; then
        LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$m" 2> "$tmp/man" > /dev/null || die "$m"
        [ ! -s "$tmp/man" ] || { cat "$tmp/man"; die "$m: warnings"; }
    fi
done
[ "$n" -gt 5 ] || die "$n manual pages"

sh "$top/tools/uninstall.sh" "$manifest" > /dev/null
left=$(find "$prefix" \( -type f -o -type l \) | head)
[ -z "$left" ] || die "left behind: $left"
[ ! -d "$prefix/include/fathom" ] || die "left behind: include/fathom"
rm -f "$manifest"
echo "installed, used and removed: $n manual pages"
