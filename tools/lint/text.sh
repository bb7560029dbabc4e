# Bytes: no tabs outside Makefiles, no trailing space, final line feed, ASCII in sources, no folder
# of somebody's machine in any file.
bad=0
# Prints lines of "file:line: text" given to it; remembers that there were some.
report() {
    if grep . >"$work/hits"; then
        sed "s/^/$1: /" "$work/hits"
        bad=1
    fi
}
tab=$(printf '\t')
grep -v -e '^Makefile$' -e '\.mk$' -e '\.awk$' -e '/data/' "$work/text" |
    xargs grep -n "$tab" /dev/null | report 'tab'
grep -v '/data/' "$work/text" | grep -v '^docs/demo/' | xargs grep -n ' $' /dev/null |
    report 'trailing space'
xargs env LC_ALL=C grep -n '[^ -~	]' /dev/null <"$work/c" | report 'not ASCII'
while read -r f; do
    [ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f:1: no line feed at the end"
done <"$work/text" | report 'end'
me='/(wo''rk|ho''me|ro''ot|Us''ers)/[a-z]'
xargs grep -nE "(^|[^A-Za-z0-9_.~-])$me" /dev/null <"$work/text" | report 'absolute path'
[ "$bad" = 0 ]
