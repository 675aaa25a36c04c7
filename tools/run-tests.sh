#!/bin/sh
# Runs ctest and closes with one line that counts passed, failed and skipped tests. A skip (of a whole test, or of a
# case inside one) that is not in tests/allowed-skips.txt is a failure; so is a run without tests.
#   tools/run-tests.sh BUILD [REGEX [EXCLUDE]]
set -u
build=$1
regex=${2:-.}
exclude=${3:-'^$'}
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$build" || exit 2
log=test.log
# Two tests run at a time on the same CPUs: threads stay where the system puts them.
FATHOM_PIN=${FATHOM_PIN:-0} ctest -j 2 --output-on-failure --timeout "${TEST_TIMEOUT:-900}" -R "$regex" -E "$exclude" > "$log" 2>&1
rc=$?
grep -v '^ *Start ' "$log"
line='^ *[0-9]+/[0-9]+ +Test +#[0-9]+: '
passed=$(grep -cE "$line.* Passed " "$log")
failed=$(grep -cE "$line.*\*\*\*(Failed|Timeout|Exception|Not Run)" "$log")
# Whole tests, then cases of cmocka programs as TEST:CASE (they are listed twice: once when met, once at the end).
skips=$(
    grep -E "$line.*\*\*\*Skipped" "$log" | sed -E 's/^[^:]*: ([^ ]+) .*/\1/'
    awk '/^[0-9]+\/[0-9]+ Testing: /{t=$3} /^\[  SKIPPED \] /&&!/test\(s\)/{print t ":" $4}' Testing/Temporary/LastTest.log | sort -u
)
skipped=0
bad=0
for t in $skips; do
    skipped=$((skipped + 1))
    if grep -qxF "$t" "$top/tests/allowed-skips.txt"; then
        echo "skipped (allowed): $t"
    else
        echo "skipped, but not listed in tests/allowed-skips.txt: $t"
        bad=1
    fi
done
if [ "$rc" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo "ctest ended with status $rc:"
    tail -n 5 "$log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$rc" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] && [ $bad -eq 0 ]
