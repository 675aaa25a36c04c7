#!/bin/sh
# Runs ctest and closes with one line that counts passed, failed and skipped tests; a skip that is not in
# tests/allowed-skips.txt is a failure.
#   tools/run-tests.sh BUILD [REGEX]
set -u
build=$1
regex=${2:-.}
log=$build/test.log
top=$(cd "$(dirname "$0")/.." && pwd)
(cd "$build" && ctest -j 2 --output-on-failure --timeout 900 -R "$regex") > "$log" 2>&1
rc=$?
grep -v '^ *Start ' "$log"
passed=$(grep -c ' Passed ' "$log")
failed=$(grep -cE '\*\*\*(Failed|Timeout|Exception)|\*\*\*Not Run' "$log")
skipped=$(grep -c '\*\*\*Skipped' "$log")
bad=0
for t in $(sed -n 's/.*Test *#[0-9]*: \([^ ]*\) .*\*\*\*Skipped.*/\1/p' "$log"); do
    if grep -qx "$t" "$top/tests/allowed-skips.txt" 2>/dev/null; then
        echo "skipped (allowed): $t"
    else
        echo "skipped, but not listed in tests/allowed-skips.txt: $t"
        bad=1
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$rc" -eq 0 ] && [ "$passed" -gt 0 ] && [ $bad -eq 0 ]
