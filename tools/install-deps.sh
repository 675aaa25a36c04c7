#!/bin/sh
# Installs what the build needs from the distribution, if anything is missing.
#   tools/install-deps.sh [build|test|check|cross]
# As root directly, else through sudo. FATHOM_NO_INSTALL=1 prints the command and stops.
# shellcheck disable=SC2086 # lists of words
set -eu
kind=${1:-build}
build="gcc g++ make cmake ninja-build pkg-config libdnnl-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libzstd-dev uthash-dev libprotobuf-c-dev libcurl4-openssl-dev libmicrohttpd-dev libxml2-dev libsqlite3-dev libpq-dev liblink-grammar-dev"
test="libcmocka-dev curl libvips-tools libcld2-0 libidn2-0 libopencc1.1 libopencc-data link-grammar-dictionaries-en"
check="clang clang-format clang-tidy libclang-rt-dev"
# What some distributions do not have under this name; without it a test is skipped. 100 MB, so only where everything is checked.
browser="chromium-headless-shell python3-websockets"
cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
optional=""
case $kind in
build) want=$build ;;
test) want="$build $test" ;;
check) want="$build $test $check"; optional=$browser ;;
cross) want="$build $test $cross" ;;
*) echo "install-deps: unknown set '$kind' (build, test, check, cross)" >&2; exit 2 ;;
esac
if ! command -v dpkg-query >/dev/null 2>&1; then
    # Another distribution: cmake says which header is missing, by name.
    exit 0
fi
missing_of() {
    for p in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || printf ' %s' "$p"
    done
}
missing=$(missing_of $want)
more=$(missing_of $optional)
[ -z "$missing$more" ] && exit 0
as=""
[ "$(id -u)" -eq 0 ] || as="sudo "
get="${as}apt-get install -y --no-install-recommends"
if [ "${FATHOM_NO_INSTALL:-}" = 1 ]; then
    [ -z "$missing" ] && exit 0
    echo "Missing packages. Run this, then try again:" >&2
    echo "  $get$missing" >&2
    exit 1
fi
echo "Installing from the distribution:$missing$more" >&2
export DEBIAN_FRONTEND=noninteractive
$get $missing $more >/dev/null 2>&1 && exit 0
${as}apt-get update >/dev/null
if [ -n "$missing" ]; then
    $get$missing
fi
if [ -n "$more" ]; then
    $get$more >/dev/null 2>&1 || echo "Not there, so tests that need them are skipped:$more" >&2
fi
