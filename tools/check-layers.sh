#!/bin/sh
# Each folder of src/ may include itself, the public headers, and the folders it names here with all that they may include.
set -eu
cd "$(dirname "$0")/.."
allow() {
    case $1 in
    base) echo "base" ;;
    backend) echo "backend base" ;;
    backend/cpu) echo "backend backend/cpu base" ;;
    tensor) echo "tensor backend base" ;;
    text) echo "text base" ;;
    net) echo "net base" ;;
    io) echo "io tensor backend base" ;;
    nn) echo "nn tensor backend base" ;;
    model) echo "model nn io text tensor backend backend/cpu base" ;;
    data) echo "data text io net tensor backend base" ;;
    infer) echo "infer model nn io text tensor backend backend/cpu base" ;;
    train) echo "train model data nn io text net tensor backend backend/cpu base" ;;
    eval) echo "eval infer data model nn io text net tensor backend backend/cpu base" ;;
    track) echo "track io tensor backend base" ;;
    measure) echo "measure train infer eval track data model nn io text net tensor backend backend/cpu base" ;;
    serve) echo "serve infer track data model nn io text net tensor backend backend/cpu base" ;;
    recipe) echo "recipe measure train infer eval track data model nn io text net tensor backend backend/cpu base" ;;
    cli) echo "cli" ;;
    *) echo "" ;;
    esac
}
bad=0
for f in $(find src -name '*.[ch]' -o -name '*.def' | sort); do
    d=${f#src/}
    case $d in
    backend/cpu/*) layer=backend/cpu ;;
    *) layer=${d%%/*} ;;
    esac
    ok=$(allow "$layer")
    [ -n "$ok" ] || { echo "$f: folder $layer is not in tools/check-layers.sh"; bad=1; continue; }
    for inc in $(sed -n 's/^[[:space:]]*#[[:space:]]*include "\([^"]*\)".*/\1/p' "$f"); do
        case $inc in
        fathom/*) continue ;;
        backend/cpu/*) to=backend/cpu ;;
        */*) to=${inc%%/*} ;;
        *) echo "$f: \"$inc\": includes are written from the roots include/ and src/"; bad=1; continue ;;
        esac
        case " $ok " in
        *" $to "*) ;;
        *) echo "$f: $layer may not include $inc"; bad=1 ;;
        esac
    done
done
[ $bad -eq 0 ] && echo "layers: ok"
exit $bad
