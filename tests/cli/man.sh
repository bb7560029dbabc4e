#!/bin/sh
# The man page has of every verb the options and the examples of its help text, in its own section or in shared ones that
# it names, and in its own section no others.
. "$(dirname "$0")/common/tap.sh"

sed "s/\\\\f[BIR]//g; s/\\\\-/-/g; s/\\\\(aq/'/g" docs/man/npumoe.1 >"$work/man"

# own VERB / shared VERB: the options of its sections; those of the sections that it names.
cat >"$work/options.pl" <<'X'
my ($which, $verb) = @ARGV;
my (%own, %shared, %named, $section, $verbs);
while (<STDIN>) {
    chomp;
    ($verbs, $section) = ($1 eq 'VERBS', '') if /^\.SH (.*)/;
    $section = $verbs ? (split ' ')[2] : $1 if /^\.SS (.*)/;
    $named{$_}{$section} = 1 for /^Also the options under (.*) below\.$/ ? split /, | and /, $1 : ();
    next unless /^--?[a-z]/;
    if ($verbs) { $own{$section}{$_} = 1 } else { $shared{$section}{$_} = 1 }
}
my %found = $which eq 'own' ? %{$own{$verb} || {}}
    : map { $named{$_}{$verb} ? %{$shared{$_} || die "$verb names $_, which is no section\n"} : () } sort keys %named;
print map "$_\n", sort keys %found;
X
for verb in $(sed -n 's/^  \([a-z]*\)  .*/\1/p' tests/cli/expected/help.txt); do
    check "$verb has a section" grep -q "^\.SS npumoe $verb " "$work/man"
    run help "$verb"
    # "  -c, --ctx-size N   ..." -> "-c, --ctx-size N"
    sed -n 's/^  \(-[^ ].*\)$/\1/p' "$work/out" | sed 's/   *[^ ].*$//; s/ *$//' | sort -u >"$work/known"
    perl "$work/options.pl" own "$verb" <"$work/man" >"$work/own"
    perl "$work/options.pl" shared "$verb" <"$work/man" | cat "$work/own" - >"$work/described"
    missing=$(grep -vxFf "$work/described" "$work/known")
    check "$verb: every option is described${missing:+: missing $(echo $missing)}" test -z "$missing"
    strange=$(grep -vxFf "$work/known" "$work/own")
    check "$verb: no other is${strange:+: $(echo $strange)}" test -z "$strange"
    lacking=$(sed -n '/^Examples$/,$s/^  //p' "$work/out" | grep -vxFf "$work/man")
    check "$verb: so are its examples${lacking:+: missing $lacking}" test -z "$lacking"
done
check "no escape sequence is left over" sh -c "! grep -nFe '\\-' '$work/man'"
version=$(sed -n 's/.*NPUMOE_VERSION_STRING "\(.*\)".*/\1/p' include/npumoe/npumoe_version.h)
check "it is the page of this version" grep -q "^\.TH NPUMOE 1 .*\"npumoe $version\"" "$work/man"
done_testing
