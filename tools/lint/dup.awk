# dup.awk: how much of src/ is written twice: code lines that lie in a window of 8 lines (spaces
# normalised; comments, includes and lines of braces only dropped) that occurs more than once. Reads
# strip.awk's output. Cap 5 percent; the worst pairs are printed.
BEGIN { FS = "\t"; window = 8; cap = 5 }
$1 !~ /^src\// || $1 ~ /_tables\./ { next }
{
    code = substr($0, length($1) + length($2) + 3)
    gsub(/[ \t]+/, "", code)
    if (code == "" || code ~ /^#include/ || code ~ /^[{}();,]*$/) next
    n++
    text[n] = code
    file[n] = $1
    line[n] = $2
}
END {
    for (i = 1; i + window - 1 <= n; i++) {
        if (file[i] != file[i + window - 1]) continue
        key = ""
        for (j = 0; j < window; j++) key = key text[i + j] "\n"
        if (key in first) {
            k = first[key]
            for (j = 0; j < window; j++) { twice[k + j] = 1; twice[i + j] = 1 }
            pair = file[k] " " file[i]
            if (!(pair in where)) where[pair] = line[k] " " line[i]
            windows[pair]++
        } else first[key] = i
    }
    for (i = 1; i <= n; i++) sum += twice[i]
    percent = n ? 100 * sum / n : 0
    if (percent > cap) {
        for (p in windows) {
            split(p, f, " ")
            split(where[p], l, " ")
            printf "%s:%d: %d windows as in %s:%d\n", f[2], l[2], windows[p], f[1], l[1]
        }
        printf "src: %.1f percent of %d code lines are written twice (cap %d)\n", percent, n, cap
        exit 1
    }
    printf "note: %.1f %% of %d code lines\n", percent, n
}
