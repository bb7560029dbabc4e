#!/bin/sh
# The man page knows every verb and every option that the help texts know, and no other option.
. "$(dirname "$0")/common/tap.sh"

sed 's/\\f[BIR]//g; s/\\-/-/g' docs/man/npumoe.1 >"$work/man"
for verb in $(sed -n 's/^  \([a-z]*\)  .*/\1/p' tests/cli/expected/help.txt); do
    check "$verb has a section" grep -q "^\.SS npumoe $verb " "$work/man"
    run help "$verb"
    # "  -c, --ctx-size N   ..." -> "-c, --ctx-size N"
    sed -n 's/^  \(-[^ ].*\)$/\1/p' "$work/out" | sed 's/   *[^ ].*$//; s/ *$//' >>"$work/options"
done
sort -u "$work/options" >"$work/known"
missing=$(grep -vxFf "$work/man" "$work/known")
check "every option is described${missing:+: missing $(echo $missing)}" test -z "$missing"
sed -n 's/^\(--\{0,1\}[a-z].*\)$/\1/p' "$work/man" | sort -u >"$work/described"
strange=$(grep -vxFf "$work/known" "$work/described")
check "no other is described${strange:+: $(echo $strange)}" test -z "$strange"
version=$(sed -n 's/.*NPUMOE_VERSION_STRING "\(.*\)".*/\1/p' include/npumoe/npumoe_version.h)
check "it is the page of this version" grep -q "^\.TH NPUMOE 1 .*\"npumoe $version\"" "$work/man"
done_testing
