#!/bin/sh
# clang-tidy over the sources, JOBS at a time; what was clean is not read again while the file, what it includes, the
# checks and the program stay the same.
#   tools/tidy.sh BUILD FILE...     (BUILD has compile_commands.json)
# The marks of clean files lie in ${XDG_CACHE_HOME:-~/.cache}/fathom-tidy; FATHOM_TIDY_CACHE=DIR moves them, an empty
# one turns them off.
set -eu
if [ "$1" = --one ]; then
    build=$2
    cache=$3
    salt=$4
    file=$5
    mark=
    if [ -n "$cache" ]; then
        # Names of folders are in the preprocessed text only behind '#'; -CC keeps comments, which may hold NOLINT.
        sum=$({
            echo "$salt $file"
            clang -E -CC -P -std=gnu17 -D_GNU_SOURCE -I src -I include -I "$build" "$file" 2> /dev/null || cat "$file" src/*/*.h include/fathom/*.h
        } | sha256sum | cut -c1-40)
        mark=$cache/$sum
        [ ! -e "$mark" ] || exit 0
    fi
    log=$(mktemp)
    if clang-tidy -p "$build" --quiet "$file" > "$log" 2>&1; then
        rm -f "$log"
        [ -z "$mark" ] || : > "$mark"
        exit 0
    fi
    grep -v ' warnings\{0,1\} generated' "$log"
    rm -f "$log"
    exit 1
fi
build=$1
shift
cache=${FATHOM_TIDY_CACHE-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/fathom-tidy}
if [ -n "$cache" ]; then
    mkdir -p "$cache" 2> /dev/null || cache=
fi
if [ -n "$cache" ]; then
    find "$cache" -type f -mtime +30 -delete
fi
salt=$({ clang-tidy --version; cat .clang-tidy; grep -v '"directory"\|"file"' "$build/compile_commands.json" | grep -o -- ' -[DWf][^ ]*' | sort -u; } | sha256sum | cut -c1-40)
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -n 1 sh "$0" --one "$build" "$cache" "$salt"
echo "clang-tidy: ok"
