# Bytes: no tabs outside Makefiles, no trailing space, final line feed, ASCII in sources, no folder
# of somebody's machine in any file; no link to a file that is not there.
: >"$work/bad"
# report WHAT: marks the findings on standard input.
report() { sed "s/\$/    <- $1/" >>"$work/bad"; }

tab=$(printf '\t')
grep -v -e '^Makefile$' -e '\.mk$' -e '/data/' "$work/text" | xargs grep -n "$tab" /dev/null |
    report 'tab'
grep -v -e '/data/' -e '^docs/demo/' "$work/text" | xargs grep -n ' $' /dev/null |
    report 'trailing space'
xargs env LC_ALL=C grep -n "[^ -~$tab]" /dev/null <"$work/c" | report 'not ASCII'
while read -r f; do
    [ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f: last line"
done <"$work/text" | report 'no line feed at the end'
# Written in halves, or this file would find itself.
folders='/(wo''rk|ho''me|ro''ot|Us''ers)/[a-z]'
xargs grep -nE "(^|[^A-Za-z0-9_.~-])$folders" /dev/null <"$work/text" | report 'absolute path'
# One link a line: FILE LINE TARGET; targets on the web and places in the same file apart.
grep '\.md$' "$work/text" | while read -r f; do
    awk '{ s = $0
           while (match(s, /\]\([^)# ]+/)) { print FNR, substr(s, RSTART + 2, RLENGTH - 2); s = substr(s, RSTART + RLENGTH) } }' "$f" |
        while read -r line target; do
            case $target in *://* | mailto:*) continue ;; esac
            [ -e "$(dirname "$f")/$target" ] || echo "$f:$line: $target"
        done
done | report 'link to nothing'

cat "$work/bad"
[ ! -s "$work/bad" ]
