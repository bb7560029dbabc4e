#!/bin/sh
# Help texts, word for word, and where they go.
. "$(dirname "$0")/common/tap.sh"

run
is_code 1 "without a verb: exit 1"
check "... and nothing on standard output" test ! -s "$work/out"
check "... but the short help on standard error" grep -q '^Usage: npumoe VERB' "$work/err"

run help
is_code 0 "help: exit 0"
sed 's/^npumoe [0-9.]*:/npumoe VERSION:/' "$work/out" >"$work/o" && mv "$work/o" "$work/out"
out_is_file help.txt "help lists the verbs"
run --help
is_code 0 "--help is the same"

for verb in $(sed -n 's/^  \([a-z]*\)  .*/\1/p' tests/cli/expected/help.txt); do
    run help "$verb"
    is_code 0 "help $verb: exit 0"
    out_is_file "help-$verb.txt" "help $verb"
    cp "$work/out" "$work/first"
    run "$verb" -h
    check "$verb -h is the same" cmp "$work/out" "$work/first"
    run "$verb" --no-such-option --help
    check "$verb --help too, whatever else is there" cmp "$work/out" "$work/first"
    check "help $verb fits into 100 columns" sh -c "! grep -q '.\{101\}' '$work/out'"
done

lines=$(sed -n 's/^  \([a-z]*\)  .*/| [\1](#\1) |/p' tests/cli/expected/help.txt)
rows=$(sed -n 's/^\(| \[[a-z]*\](#[a-z]*) |\).*/\1/p' docs/cli.md)
check "docs/cli.md has a table of all verbs, in this order" test "$rows" = "$lines"
for verb in $(sed -n 's/^  \([a-z]*\)  .*/\1/p' tests/cli/expected/help.txt); do
    check "... and a section for $verb" grep -qx "## $verb" docs/cli.md
done

missing=
for word in $(sed -n 's/^  .*\(--[a-z][a-z-]*\).*/\1/p' tests/cli/expected/help-*.txt | sort -u); do
    grep -qe "\`$word\b" -e ", \`$word\b" docs/cli.md || missing="$missing $word"
done
check "docs/cli.md has every option (missing:$missing)" test -z "$missing"

run --version
is_code 0 "--version: exit 0"
check "... name, version, build" grep -Eq '^npumoe [0-9]+\.[0-9]+\.[0-9]+ \(build .+\)$' "$work/out"

run help bnech
is_code 1 "help for a mistyped verb: exit 1"
echo 'npumoe: there is no verb bnech; did you mean bench? (npumoe help lists all)' |
    err_is "... suggests the right one"
done_testing
