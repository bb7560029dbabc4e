# Sizes: files <= 1500 lines (aim 800; *_tables.c and generated lists exempt), functions <= 120
# lines (kernels 200), complexity <= 20 (a switch counts once). sizes.allow holds exceptions as
# "path function lines complexity"; an entry that is larger than needed, or not needed, fails.
if ! command -v pmccabe >/dev/null 2>&1; then
    echo "pmccabe is missing; ./setup deps check installs it"
    exit 1
fi
bad=0
while read -r f; do
    case $f in *_tables.[ch]) continue ;; esac
    n=$(wc -l <"$f")
    [ "$n" -le 1500 ] || { echo "$f:$n: file of $n lines (cap 1500)"; bad=1; }
    [ "$n" -le 800 ] || over="${over:-}$f ($n) "
done <"$work/c"
[ -z "${over:-}" ] || echo "note: files over 800 lines: $over"
# pmccabe: modified complexity, traditional, statements, first line, lines, file(line): function
grep '\.c$' "$work/c" | grep -v '_tables\.c$' | xargs pmccabe 2>/dev/null |
    awk -v allow_file=tools/lint/sizes.allow '
    BEGIN {
        while ((getline text < allow_file) > 0) {
            if (text ~ /^#/ || split(text, a, " ") < 4) continue
            key = a[1] " " a[2]
            allowed_lines[key] = a[3] + 0
            allowed_cc[key] = a[4] + 0
        }
    }
    {
        file = $6
        sub(/\(.*/, "", file)
        name = $7
        key = file " " name
        lines = $5 + 0
        cc = $1 + 0
        cap = file ~ /^src\/kernels\// ? 200 : 120
        total++
        if (lines > longest) longest = lines
        if (cc > hardest) hardest = cc
        if (key in allowed_lines) {
            seen[key] = 1
            if (lines <= cap && cc <= 20) complain("no exception needed any more")
            if (allowed_lines[key] > (lines > cap ? lines : cap) || allowed_cc[key] > (cc > 20 ? cc : 20))
                complain("lower its exception to " lines " lines, complexity " cc)
            if (allowed_lines[key] > cap) cap = allowed_lines[key]
        }
        if (lines > cap) complain(lines " lines (cap " cap ")")
        if (cc > 20 && cc > allowed_cc[key]) complain("complexity " cc " (cap 20)")
    }
    function complain(what) { print file ":" $4 ": " name ": " what; bad = 1 }
    END {
        for (k in allowed_lines)
            if (!(k in seen)) { print "sizes.allow: no such function: " k; bad = 1 }
        printf "note: %d functions, longest %d lines, complexity up to %d\n", total, longest, hardest
        exit bad
    }' || bad=1
exit $bad
