# Names: the shared library exports npumoe_* only; other global symbols of the archive are nm_*.
lib=build/release/libnpumoe.a
so=build/release/libnpumoe.so
[ -f "$lib" ] || { echo "$lib is missing; run make first"; exit 1; }
bad=0
# nm -g lists globals; U and w are undefined. Mach-O puts an underscore before each name.
names() { sed -n 's/^[0-9a-f]* [A-TV-Z] _\{0,1\}\([A-Za-z0-9_]*\)$/\1/p' | sort -u; }
wrong=$(nm -g "$lib" 2>/dev/null | names | grep -vE '^(npumoe|nm)_')
[ -z "$wrong" ] || { echo "$lib: global names without npumoe_ or nm_:" $wrong; bad=1; }
if [ -f "$so" ]; then
    wrong=$(nm -D --defined-only "$so" | names | grep -v '^npumoe_')
    [ -z "$wrong" ] || { echo "$so: exported, but not npumoe_*:" $wrong; bad=1; }
    # What the header promises is there.
    nm -D --defined-only "$so" | names >"$work/exported"
    sed -n 's/.*[ *]\(npumoe_[a-z0-9_]*\)(.*/\1/p' include/npumoe/npumoe.h | sort -u |
        while read -r f; do
            grep -q "NPUMOE_API.*[ *]$f(" include/npumoe/npumoe.h || continue
            grep -qx "$f" "$work/exported" || echo "$so: missing $f, which npumoe.h declares"
        done >"$work/missing"
    if [ -s "$work/missing" ]; then cat "$work/missing"; bad=1; fi
fi
# Mutable data would be shared by all models and threads. Constants with pointers in them lie in
# .data.rel.ro; guards of gcc's sanitizers are not in a release build. (ELF only.)
if command -v objdump >/dev/null 2>&1; then
    data=$(objdump -t "$lib" 2>/dev/null | awk '$2 != "df" && $3 != "*UND*" && $NF !~ /^\./ &&
        / O \.(data|bss|tdata|tbss)/ && !/ O \.data\.rel\.ro/ { print $NF }' | sort -u)
    [ -z "$data" ] || { echo "$lib: mutable globals:" $data; bad=1; }
fi
exit $bad
