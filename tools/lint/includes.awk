# includes.awk: arrows between the folders of src/ go one way (ARCHITECTURE.md). Reads strip.awk's
# output. `sees[x]`: folders that folder x may include from, beside itself and the public header.
BEGIN {
    FS = "\t"
    sees["base"] = ""
    sees["quant"] = "base"
    sees["formats"] = "base quant"
    sees["kernels"] = "base quant"
    sees["mlpack"] = "base formats quant"
    sees["device"] = "base formats quant kernels mlpack"
    sees["model"] = "base formats quant kernels"
    sees["moe"] = "base formats quant kernels device model"
    sees["engine"] = "base formats quant kernels device model moe"
    sees["server"] = ""
    sees["cli"] = ""
}
function complain(what) { print $1 ":" $2 ": " what; bad = 1 }
$1 ~ /^src\// && $3 ~ /^[ ]*#[ ]*include[ ]*"/ {
    split($1, part, "/")
    from = part[2]
    name = $3
    sub(/^[^"]*"/, "", name)
    sub(/".*$/, "", name)
    if (!(from in sees)) { complain("folder src/" from " is not in includes.awk"); next }
    if (name ~ /^\.\.?\//) { complain("relative include \"" name "\""); next }
    if (name !~ /\//) next # beside the file
    split(name, to, "/")
    if (to[1] == from || to[1] == "npumoe") next
    if (index(" " sees[from] " ", " " to[1] " ") == 0)
        complain("src/" from " must not include from " to[1] ": \"" name "\"")
}
# Nobody compiles another's .c file, tests neither: the boundary would go untested.
$3 ~ /^[ ]*#[ ]*include[ ]*"[^"]*\.c"/ && $3 !~ /_tmpl\.c"/ { complain("includes a .c file") }
END { exit bad }
