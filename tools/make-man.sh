#!/bin/sh
# Writes one manual page for the program and one for each command, from `fathom ... --help`.
#   tools/make-man.sh FATHOM DIR
set -eu
fathom=$1
dir=$2
export COLUMNS=78
escape() { sed -e 's/\\/\\\\/g' -e "s/^\([.']\)/\\\\\&\1/" -e 's/-/\\-/g'; }
page() { # name title command...
    name=$1
    summary=$2
    shift 2
    {
        printf '.TH %s 1 "" "fathom" "Fathom manual"\n.SH NAME\n%s \\- %s\n.SH DESCRIPTION\n.nf\n' "$(echo "$name" | tr a-z A-Z)" "$name" "$summary"
        "$@" --help | escape
        printf '.fi\n'
    } > "$dir/$name.1"
}
page fathom "one program for the whole life of a language model" "$fathom"
"$fathom" --help | sed -n 's/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  \{1,\}\(.*\)$/\1|\3/p' | while IFS='|' read -r cmd summary; do
    # shellcheck disable=SC2086
    page "fathom-$(echo "$cmd" | tr ' ' '-')" "$summary" "$fathom" $cmd
done
