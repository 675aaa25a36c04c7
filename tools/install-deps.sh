#!/bin/sh
# Installs what the build needs from the distribution, if anything is missing.
#   tools/install-deps.sh [build|test|check|cross]
# As root directly, else through sudo. FATHOM_NO_INSTALL=1 prints the command and stops.
set -eu
kind=${1:-build}
build="gcc g++ make cmake ninja-build pkg-config libdnnl-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libzstd-dev uthash-dev libprotobuf-c-dev libcurl4-openssl-dev libmicrohttpd-dev libxml2-dev libsqlite3-dev libpq-dev liblink-grammar-dev"
test="libcmocka-dev curl libvips-tools libcld2-0 libidn2-0 libopencc1.1 libopencc-data link-grammar-dictionaries-en"
check="clang clang-format clang-tidy libclang-rt-dev"
cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
case $kind in
build) want=$build ;;
test) want="$build $test" ;;
check) want="$build $test $check" ;;
cross) want="$build $test $cross" ;;
*) echo "install-deps: unknown set '$kind' (build, test, check, cross)" >&2; exit 2 ;;
esac
if ! command -v dpkg-query >/dev/null 2>&1; then
    # Another distribution: cmake says which header is missing, by name.
    exit 0
fi
missing=""
for p in $want; do
    dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
as=""
[ "$(id -u)" -eq 0 ] || as="sudo "
cmd="${as}apt-get install -y --no-install-recommends$missing"
if [ "${FATHOM_NO_INSTALL:-}" = 1 ]; then
    echo "Missing packages. Run this, then try again:" >&2
    echo "  $cmd" >&2
    exit 1
fi
echo "Installing from the distribution:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! $cmd >/dev/null 2>&1; then
    ${as}apt-get update >/dev/null
    $cmd
fi
