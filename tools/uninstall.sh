#!/bin/sh
# Removes what `make install` listed in a manifest, and folders of its own that are empty then.
#   tools/uninstall.sh MANIFEST      (DESTDIR as at installation)
set -eu
manifest=$1
[ -f "$manifest" ] || { echo "uninstall: there is no $manifest: nothing was installed from this build" >&2; exit 1; }
n=0
while IFS= read -r f || [ -n "$f" ]; do
    [ -e "${DESTDIR:-}$f" ] || [ -L "${DESTDIR:-}$f" ] || continue
    rm -f "${DESTDIR:-}$f"
    n=$((n + 1))
    case $f in
    */fathom/*) rmdir "${DESTDIR:-}$(dirname "$f")" 2> /dev/null || true ;;
    esac
done < "$manifest"
echo "removed $n files"
