#!/bin/sh
# fathom data ingest: formats, refusals, keys, a full queue, a killed server, an ended one.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
unset http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY || true
client="$top/tests/cli/ingest_client.py"
pid=
trap '[ -z "$pid" ] || kill -9 $pid 2> /dev/null; rm -rf "$tmp"' EXIT
start() { # ARGS...: $url, $pid
    : > server.err
    "$fathom" data ingest --port 0 "$@" > server.out 2>> server.err &
    pid=$!
    i=0
    while ! grep -q "rows are taken at" server.err; do
        i=$((i + 1))
        if ! kill -0 $pid 2> /dev/null; then
            grep -Eq "no HTTP server|libmicrohttpd" server.err && { echo "SKIP: no libmicrohttpd"; exit 77; }
            cat server.err >&2
            die "the server ended"
        fi
        [ $i -lt 100 ] || die "the server did not start"
        sleep 0.1
    done
    url=$(sed -n 's#.*taken at \(http://.*\)/rows#\1#p' server.err)
}
stop() {
    kill -INT $pid
    rc=0
    wait $pid || rc=$?
    pid=
    [ $rc = 0 ] || die "exit status $rc at the end"
}

start -o a --require text --max-body 1MiB --max-row-bytes 64KiB --json
run 0 python3 "$client" formats "$url"
[ -f a/rows-000001.jsonl.open ] || die "no open file"
stop
[ -f a/rows-000001.jsonl ] && [ ! -e a/rows-000001.jsonl.open ] || die "the file has no finished name"
python3 - << 'EOF' || die "rows are not those sent"
import json
rows = [json.loads(l) for l in open("a/rows-000001.jsonl", encoding="utf-8")]
texts = [r["text"] for r in rows]
assert texts == ["one", "é", "three", "four", "five", 'six, "6"\n2nd line', "seven", "eight", "nine", "ten", "eleven", "twelve"], texts
assert '"n":1.50,"x":[1, 2]' in open("a/rows-000001.jsonl").readline()
EOF
grep -q '"refused_rows":' server.out || die "no counts"
# what came is input like any other
run 0 "$fathom" data filter-length -i a/rows-000001.jsonl -o long.jsonl --min-chars 4
has long.jsonl "eleven"

# keys and their limits
printf 'secret name=etl requests_per_minute=2\n' > keys.txt
start -o k --api-key-file keys.txt
run 0 python3 "$client" keys "$url"
stop
[ "$(wc -l < k/rows-000001.jsonl)" = 2 ] || die "not two rows"

# a full queue; files that are full
start -o q --max-queue 1 --shard-bytes 1MB
run 0 python3 "$client" crowd "$url"
read -r taken busy < out
[ "$busy" -gt 0 ] || die "nobody was told to wait"
stop
[ "$(cat q/rows-*.jsonl | wc -l)" = "$taken" ] || die "$(cat q/rows-*.jsonl | wc -l) rows, expected $taken"
[ "$taken" -lt 5000 ] || [ -f q/rows-000002.jsonl ] || die "no second file"
! grep -qv '^{"text":"[0-9]*-[0-9]* x*"}$' q/rows-000001.jsonl || die "a torn row"

# killed behind the disk and before the answer: every acknowledged row is there, and one that was not
FATHOM_CRASH_POINT=ingest-synced:9
export FATHOM_CRASH_POINT
start -o d
unset FATHOM_CRASH_POINT
run 0 python3 "$client" until_dead "$url"
wait $pid 2> /dev/null || true
pid=
[ "$(cat out)" = 8 ] || die "$(cat out) rows were acknowledged, expected 8"
[ "$(wc -l < d/rows-000001.jsonl.open)" = 9 ] || die "rows are lost"
printf '{"text":"to' >> d/rows-000001.jsonl.open # a write that was cut
start -o d
run 0 python3 "$client" crowd "$url"
stop
hasnt d/rows-000001.jsonl '"to{'
[ "$(grep -c '"row ' d/rows-000001.jsonl)" = 9 ] || die "rows were lost by the restart"

# between two programs: rows in, rows out, messages apart
printf 'input: ["-"]\noutput: "-"\nsteps:\n  - clean\n  - filter-length: {min_chars: 10}\n' > pipe.yaml
printf '{"text":"A row that is long enough.","id":1}\n{"text":"x"}\nbad\n' > in.jsonl
stdin=in.jsonl run 0 "$fathom" data run pipe.yaml --rejects rejects.jsonl
printf '{"text":"A row that is long enough.","id":1}\n' > want.jsonl
same out want.jsonl
[ "$(wc -l < rejects.jsonl)" = 2 ] || die "not two rejected rows"

run 2 "$fathom" data ingest --port 0
has err "output"
finish
