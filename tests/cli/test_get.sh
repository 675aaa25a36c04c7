#!/bin/sh
# fathom get against a hub on the loopback that cuts connections, sends wrong bytes, redirects, refuses.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
"$fathom" get --help > /dev/null || exit 1
cd "$tmp"
mkfifo stay
python3 "$top/tests/cli/hub_server.py" "$tmp/port" "$tmp/log" < stay 2> "$tmp/hub.err" &
exec 9> stay # the server ends with this script
i=0
while [ ! -f port ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || die "the test hub did not start"
    sleep 0.1
done
read -r hub _ < port
unset HF_TOKEN HF_ENDPOINT http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY || true
get() { # RC REPO ARGS...
    rc_=$1
    repo=$2
    shift 2
    run "$rc_" "$fathom" get "own/$repo" --endpoint "http://127.0.0.1:$hub" --retry-wait 0.01 "$@"
}
if "$fathom" get own/x --endpoint http://127.0.0.1:1 --retries 0 2>&1 | grep -q "built without libcurl"; then
    echo "SKIP: built without libcurl"
    exit 77
fi

# whole, with weights of other programs left out
get 0 plain -o plain
has out "4 files"
has err "1 files of other frameworks"
for f in config.json "sub/notes +1.txt" model.safetensors empty.txt; do same "files/$f" "plain/$f"; done
[ ! -e plain/pytorch_model.bin ] || die "another framework's weights were fetched"
[ "$(find plain -name '*.part*' | wc -l)" = 0 ] || die "parts are left"
# again: nothing is fetched
get 0 plain -o plain --json
has out '"fetched_files":0'
has out '"commit":"0123456789abcdef0123456789abcdef01234567"'
# a file that was changed is fetched again
echo x >> plain/config.json
get 0 plain -o plain --json
has out '"fetched_files":1'
same files/config.json plain/config.json
# patterns, default folder, a revision, a list
get 0 plain --include '*.bin' --include '*.json' --exclude 'conf*' --revision v1
same files/pytorch_model.bin plain/pytorch_model.bin
get 1 plain --revision none
has err "404"
get 0 plain --list
has out "model.safetensors"
get 0 plain --list --json
python3 -c "import json,sys; d=json.load(open('out')); assert d['files']==len(d['list'])==4 and d['bytes']==sum(f['bytes'] for f in d['list'])" || die "list is no JSON"
get 1 plain --include nothing
has err "wanted"
# a data set has no weights to leave out
run 0 "$fathom" get own/data --type dataset --endpoint "http://127.0.0.1:$hub/" -o data --retry-wait 0.01
same files/pytorch_model.bin data/pytorch_model.bin
grep -q "hub /datasets/own/data/resolve/" log || die "not the data set's address"

# connections that are cut: continued where they stopped
get 0 cut -o cut
same files/model.safetensors cut/model.safetensors
grep -q "own/cut/.*model.safetensors range=bytes=70000- if=\"" log || die "no range was asked for"
grep -q "range=bytes=210000-" log || die "the third part was not asked for"
has err "trying again"
# a server without ranges sends all again
get 0 no_ranges -o no_ranges
same files/model.safetensors no_ranges/model.safetensors
# a part of an earlier run, and one of another file
mkdir -p old && head -c 123456 files/model.safetensors > old/model.safetensors.part
printf '%s\n\n' "$(sha256sum < files/model.safetensors | cut -d' ' -f1)" > old/model.safetensors.part.tag
printf 'other bytes' > old/config.json.part && printf 'abc\n\n' > old/config.json.part.tag
get 0 plain -o old
grep -q "range=bytes=123456- if=None" log || die "the part was not used"
same files/model.safetensors old/model.safetensors
same files/config.json old/config.json
# a part with a wrong byte: found by the hash, fetched again
head -c 100000 /dev/zero > old/model.safetensors.part
printf '%s\n\n' "$(sha256sum < files/model.safetensors | cut -d' ' -f1)" > old/model.safetensors.part.tag
rm old/model.safetensors
get 0 plain -o old
has err "hash is wrong"
same files/model.safetensors old/model.safetensors

# interrupted, then continued
rc=0
"$fathom" get own/slow --endpoint "http://127.0.0.1:$hub" -o slow > out 2> err &
pid=$!
i=0
while [ "$(find slow -name model.safetensors.part -size +50k 2> /dev/null | wc -l)" = 0 ]; do
    i=$((i + 1))
    [ $i -lt 200 ] || die "nothing came"
    sleep 0.05
done
kill -INT $pid
wait $pid || rc=$?
[ $rc = 130 ] || die "exit status $rc after an interrupt"
has err "continues where this one stopped"
[ ! -e slow/model.safetensors ] || die "half a file has its name"
get 0 slow -o slow
same files/model.safetensors slow/model.safetensors
grep "own/slow/.*model.safetensors" log | tail -n 1 | grep -q "range=bytes=[1-9]" || die "began again"

# answers that say no
get 1 wrong -o wrong
has err "expected sha256"
if [ -e wrong/model.safetensors ] || [ -e wrong/model.safetensors.part ]; then die "wrong bytes were kept"; fi
get 0 wrong_once -o wrong_once
same files/model.safetensors wrong_once/model.safetensors
get 0 limited -o limited
same files/config.json limited/config.json
get 1 broken -o broken --retries 2
has err "503"
[ "$(grep -c 'own/broken/resolve/.*config.json' log)" = 3 ] || die "not three attempts"
get 1 gone
has err "404"
has err "--type dataset"
get 1 loop -o loop
has err "redirects"
get 1 file -o file
has err "refused"
get 1 page
has err "hub"
get 1 huge -o huge
has err "free"
for n in 1 2 3 4 5; do
    get 1 evil$n -o evil
    has err "could leave the folder"
done
if [ -e escaped ] || [ -e /tmp/escaped ]; then die "a file left the folder"; fi
run 2 "$fathom" get ../x
run 2 "$fathom" get own/name/more
run 1 "$fathom" get own/x --endpoint http://127.0.0.1:1 --retries 0
run 2 "$fathom" get own/x --endpoint file:///etc

# the token: to the hub, not to where it redirects
get 1 private -o private
has err "HF_TOKEN"
HF_TOKEN=secret
export HF_TOKEN
get 0 private -o private
same files/config.json private/config.json
get 0 moved -o moved
same files/model.safetensors moved/model.safetensors
grep -q "^hub /own/moved/.* auth=Bearer secret" log || die "the hub got no token"
grep -q "^cdn /model.safetensors" log || die "the redirect was not followed"
grep "^cdn" log | grep -q "auth=None" || die "no request to the other host"
! grep "^cdn" log | grep -q "secret" || die "the token went to another host"
unset HF_TOKEN

# lists without sizes: pages of the tree, or what the answers say
get 0 tree -o tree
same files/model.safetensors tree/model.safetensors
grep -q "cursor=2" log || die "the second page was not asked for"
HF_ENDPOINT="http://127.0.0.1:$hub" run 0 "$fathom" get own/bare -o bare
same files/model.safetensors bare/model.safetensors

# one archive with the program, the same each time
get 0 plain -o plain --pack one.tar
get 0 plain -o plain --pack two.tar
same one.tar two.tar
mkdir un && tar -xf one.tar -C un
same files/model.safetensors un/fathom-plain/plain/model.safetensors
has un/fathom-plain/README.txt "tar -xf"
run 0 un/fathom-plain/fathom --version
finish
