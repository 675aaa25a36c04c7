# Helpers of the tests that serve: sourced after lib.sh. They serve the folder $model and send the API key $key.
command -v curl > /dev/null 2>&1 || { echo "skipped: no curl"; exit 77; }
cd "$tmp"
pid=""
model=one
key=""
ca=""
trap '[ -z "$pid" ] || kill "$pid" 2> /dev/null || true; rm -rf "$tmp"' EXIT

# start ARGS...: the server in the background; $url when it takes requests
start() {
    : > served
    "$fathom" serve "$model" --port 0 "$@" > log 2> served &
    pid=$!
    i=0
    until grep -q 'is served at' served; do
        if grep -q -e 'no HTTP server' -e libmicrohttpd12 served; then
            echo "skipped: no libmicrohttpd"
            pid=""
            exit 77
        fi
        kill -0 "$pid" 2> /dev/null || { cat served >&2; pid=""; die "the server did not start"; }
        i=$((i + 1))
        [ $i -lt 600 ] || die "the server did not start in a minute"
        sleep 0.1
    done
    url=$(sed -n 's/.*served at \(http[^ ]*\)\/v1$/\1/p' served)
}
stop() {
    kill -TERM "$pid"
    rc=0
    wait "$pid" || rc=$?
    pid=""
    [ $rc = 0 ] || die "exit status $rc at SIGTERM"
}
# ask CODE PATH [BODY]: the answer in out, its headers in headers
ask() {
    want=$1
    path=$2
    shift 2
    if [ $# -gt 0 ]; then set -- -d "$@"; fi
    code=$(curl -sS ${ca:+--cacert "$ca"} -m 60 -o out -D headers -w '%{http_code}' ${key:+-H "Authorization: Bearer $key"} "$@" "$url$path")
    n_checks=$((n_checks + 1))
    [ "$code" = "$want" ] || { cat out >&2; die "$path: answer $code, expected $want"; }
}
# words FOLDER: gives a golden BERT of 40 tokens a vocabulary
words() {
    printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' the a cat dog sat on mat good bad film very not is was and \
        i like hate it this that red green blue one two three four five six seven eight nine . '!' > "$1/vocab.txt"
    echo '{"tokenizer_class":"BertTokenizer","do_lower_case":true}' > "$1/tokenizer_config.json"
}
