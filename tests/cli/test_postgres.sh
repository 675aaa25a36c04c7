#!/bin/sh
# Rows of a PostgreSQL query, from a server that this test starts on the loopback.
set -eu
. "$(dirname "$0")/lib.sh"
bin=
for d in /usr/lib/postgresql/*/bin; do [ -x "$d/initdb" ] && bin=$d; done
[ -n "$bin" ] || { echo "SKIP: no PostgreSQL server"; exit 77; }
"$fathom" data convert -i postgresql://127.0.0.1:1/x -o - --query 'select 1' > "$tmp/out" 2>&1 || true
if grep -q -e "built without libpq" -e "not installed" "$tmp/out"; then
    echo "SKIP: no libpq"
    exit 77
fi
# The server refuses to run as root.
as=""
if [ "$(id -u)" = 0 ]; then
    id postgres > /dev/null 2>&1 && command -v setpriv > /dev/null || { echo "SKIP: root without the user postgres"; exit 77; }
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
    chmod 755 "$tmp"
    mkdir "$tmp/pg"
    chown postgres "$tmp/pg"
else
    mkdir "$tmp/pg"
fi
port=$((20000 + $$ % 20000))
stop() { $as "$bin/pg_ctl" -D "$tmp/pg/data" -m immediate stop > /dev/null 2>&1 || true; rm -rf "$tmp"; }
trap stop EXIT
cd "$tmp/pg"
$as "$bin/initdb" -D "$tmp/pg/data" -U tester -A trust -E UTF8 --no-sync > "$tmp/init" 2>&1 || die "initdb failed: $(tail -3 "$tmp/init")"
$as "$bin/pg_ctl" -D "$tmp/pg/data" -w -t 60 -l "$tmp/pg/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off" start \
    > "$tmp/start" 2>&1 || die "the server did not start: $(tail -3 "$tmp/pg/log")"
url=postgresql://tester@127.0.0.1:$port/postgres
psql() { "$bin/psql" -q -v ON_ERROR_STOP=1 "$url" -c "$1"; }
psql "create table notes (id int, body text, score float8, exact numeric(20,4), tags text[], at timestamptz, ok boolean, doc jsonb)"
psql "insert into notes values (1, E'one \"q\"\\n一', 0.5, 12345678901234.5678, '{a,NULL,b}', '2024-05-06 07:08:09+00', true, '{\"k\":[1,2]}'), (2, null, null, null, null, null, null, null)"
psql "set timezone='UTC'; alter database postgres set timezone='UTC'"
run 0 "$fathom" data convert -i "$url" -o - --quiet --query 'select * from notes order by id; '
printf '%s\n' '{"id":1,"body":"one \"q\"\n一","score":0.5,"exact":12345678901234.5678,"tags":["a",null,"b"],"at":"2024-05-06T07:08:09+00:00","ok":true,"doc":{"k": [1, 2]}}' \
    '{"id":2,"body":null,"score":null,"exact":null,"tags":null,"at":null,"ok":null,"doc":null}' > "$tmp/want"
same "$tmp/out" "$tmp/want"
# Many rows, the same for any number of threads; the password stays out of the manifest.
run 0 "$fathom" data convert -i "postgresql://tester:secret@127.0.0.1:$port/postgres" -o "$tmp/a.jsonl" --query "select n as id, repeat('x', 50) as text from generate_series(1, 50000) n" --threads 1
[ "$(grep -c . "$tmp/a.jsonl")" = 50000 ] || die "expected 50000 rows"
has a.jsonl.manifest.json "postgresql://tester@127.0.0.1"
hasnt a.jsonl.manifest.json secret
run 0 "$fathom" data convert -i "$url" -o "$tmp/b.jsonl" --query "select n as id, repeat('x', 50) as text from generate_series(1, 50000) n" --threads 3
same "$tmp/a.jsonl" "$tmp/b.jsonl"
# Nothing is written; a failure behind good rows keeps them; mistakes are told.
run 2 "$fathom" data convert -i "$url" -o - --query 'delete from notes'
run 2 "$fathom" data convert -i "$url" -o - --query 'select * from nothing'
has err "nothing"
run 0 "$fathom" data convert -i "$url" -o "$tmp/c.jsonl" --query 'select 1/(3-n) as x from generate_series(1,5) n'
[ "$(grep -c . "$tmp/c.jsonl")" = 2 ] || die "rows before a failure are lost"
has err "division by zero"
run 2 "$fathom" data convert -i "$url" -o -
has err "--query"
run 1 "$fathom" data convert -i "postgresql://tester:secret@127.0.0.1:1/postgres" -o - --query 'select 1'
hasnt err secret
finish
