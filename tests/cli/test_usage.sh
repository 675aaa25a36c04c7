#!/bin/sh
# Help, exit statuses, messages.
set -eu
. "$(dirname "$0")/lib.sh"
run 0 "$fathom" --help
has out "Usage: fathom COMMAND"
cp "$tmp/out" "$tmp/commands"
run 0 "$fathom" --version
run 2 "$fathom"
run 2 "$fathom" frobnicate
has err "no command 'frobnicate'"
# Every command in the list has help with an example, an option table, and refuses an unknown flag with status 2.
sed -n 's/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  .*/\1/p' "$tmp/commands" > "$tmp/names"
[ "$(wc -l < "$tmp/names")" -ge 13 ] || die "too few commands in --help"
while read -r cmd; do
    # shellcheck disable=SC2086
    run 0 "$fathom" $cmd --help
    has out "Examples:"
    has out "--json"
    # shellcheck disable=SC2086
    run 2 "$fathom" $cmd --no-such-flag-at-all 1
done < "$tmp/names"
run 2 "$fathom" train lerning_rate=1
has err "did you mean 'learning_rate'"
printf 'preset: 26m\nlearning_rat: 1\n' > "$tmp/bad.yaml"
run 2 "$fathom" train "$tmp/bad.yaml"
has err "bad.yaml:2"
has err "did you mean 'learning_rate'"
run 2 "$fathom" train preset=26m learning_rate=fast
has err "learning_rate"
run 1 "$fathom" info "$tmp/none"
has err "does not exist"
hasnt out "family"
run 2 "$fathom" info
mkdir "$tmp/empty"
run 1 "$fathom" info "$tmp/empty"
has err "config.json"
run 0 "$fathom" bench ops --coverage
has out "linear_ce"
hasnt out "MISSING"
finish
