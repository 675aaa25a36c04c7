# Helpers of the CLI tests: sourced with $1 = program, $2 = source folder.
fathom=$1
top=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export FATHOM_REGISTRY="$tmp/runs.db"
n_checks=0
die() { echo "FAILED: $*" >&2; [ -f "$tmp/err" ] && sed 's/^/  stderr: /' "$tmp/err" >&2; exit 1; }
# run RC COMMAND...: output in $tmp/out and $tmp/err, exit status must be RC
run() {
    want=$1
    shift
    rc=0
    "$@" > "$tmp/out" 2> "$tmp/err" < "${stdin:-/dev/null}" || rc=$?
    n_checks=$((n_checks + 1))
    [ "$rc" = "$want" ] || die "exit status $rc, expected $want: $*"
}
# has FILE TEXT: fixed text occurs
has() { n_checks=$((n_checks + 1)); grep -qF -- "$2" "$tmp/$1" || { cat "$tmp/$1" >&2; die "$1 lacks '$2'"; }; }
hasnt() { n_checks=$((n_checks + 1)); ! grep -qF -- "$2" "$tmp/$1" || die "$1 has '$2'"; }
same() { n_checks=$((n_checks + 1)); cmp -s "$1" "$2" || die "$1 and $2 differ"; }
number() { sed -n "s/.*\"$2\":\([-0-9.e+]*\).*/\1/p" "$tmp/$1" | tail -n 1; }
finish() { [ "$n_checks" -gt 0 ] || die "no check ran"; echo "$n_checks checks passed"; }
