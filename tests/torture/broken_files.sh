#!/bin/sh
# Broken model files through the program: each is refused with a message on standard error, nothing
# on standard output, exit code 1. (The exact messages are test_gguf_broken's.)
export LC_ALL=C # bytes, not characters
program=${NPUMOE:-build/release/npumoe}
maker=${NPUMOE_BUILD:-build/release}/mkmodel
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
n=0
failed=0

result() { # result RC NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

# refused NAME ARGUMENTS...
refused() {
    name=$1
    shift
    "$program" "$@" >"$folder/out" 2>"$folder/err" </dev/null
    code=$?
    good=0
    if [ $code != 1 ] || [ -s "$folder/out" ] || ! grep -q '^npumoe: .' "$folder/err"; then
        good=1
        sed 's/^/#   /' "$folder/err" >&2
        echo "#   exit code $code" >&2
    fi
    result $good "$name: $(sed -n "s|$folder/||g; s/#/_/g; s/^npumoe: //p" "$folder/err" | head -n 1)"
}

model=$folder/whole.gguf
"$maker" --preset tiny-olmoe --layers 2 "$model" >/dev/null || {
    echo "Bail out! $maker failed"
    exit 1
}
bytes=$(wc -c <"$model" | tr -d ' ')
"$program" run -m "$model" -p Hello -n 4 --temp 0 >"$folder/out" 2>/dev/null
result $? "the whole file answers"

refused 'no such file' run -m "$folder/none.gguf" -p x
refused 'a folder' run -m "$folder" -p x
: >"$folder/b.gguf"
refused 'an empty file' run -m "$folder/b.gguf" -p x
head -c 65536 "$program" >"$folder/b.gguf"
refused 'a program' run -m "$folder/b.gguf" -p x

# Cut at a sample of lengths: header, metadata, tensor table, data.
for at in 1 3 4 8 16 23 24 25 64 200 1000 4000 $((bytes / 4)) $((bytes / 2)) $((bytes - 1)); do
    head -c "$at" "$model" >"$folder/b.gguf"
    refused "cut after $at bytes" run -m "$folder/b.gguf" -p x -n 1
done

# overwrite OFFSET BYTES(printf)
overwrite() {
    cp "$model" "$folder/b.gguf"
    # shellcheck disable=SC2059
    printf "$2" | dd of="$folder/b.gguf" bs=1 seek="$1" conv=notrunc 2>/dev/null
}
overwrite 0 'GGML'
refused 'wrong magic' run -m "$folder/b.gguf" -p x
overwrite 4 '\001'
refused 'version 1' run -m "$folder/b.gguf" -p x
overwrite 7 '\003'
refused 'big endian or absurd version' run -m "$folder/b.gguf" -p x
overwrite 8 '\377\377\377\377\377\377\377\177'
refused 'absurd number of tensors' run -m "$folder/b.gguf" -p x
overwrite 16 '\377\377\377\377\377\377\377\177'
refused 'absurd number of keys' run -m "$folder/b.gguf" -p x
overwrite 24 '\377\377\377\377\377\377\377\377'
refused 'absurd key length' run -m "$folder/b.gguf" -p x

# The architecture's name with other letters: refused by name, with the list of supported ones.
sed 's/olmoe/olmxx/g' "$model" >"$folder/b.gguf"
refused 'unknown architecture' run -m "$folder/b.gguf" -p x
grep -q 'olmxx' "$folder/err" && grep -q 'qwen3moe' "$folder/err"
result $? 'it is named, and so are the supported ones'

# The same files do not crash the verbs that only look.
head -c $((bytes / 2)) "$model" >"$folder/b.gguf"
refused 'tokenize' tokenize -m "$folder/none.gguf" -p x
refused 'perplexity' perplexity -m "$folder/b.gguf" -f "$model"
refused 'logits' logits -m "$folder/b.gguf" -p x
refused 'bench' bench -m "$folder/b.gguf" -p 8 -n 1 -r 1
refused 'info' info -m "$folder/none.gguf"
refused 'memory limit' run -m "$model" --memory-limit 100K -p x
refused 'prompt longer than the context' run -m "$model" -c 8 -p 'one two three four five six seven eight nine ten'
refused 'unwritable output' logits -m "$model" -p x -o "$folder/none/x.npy"

# Flips of single bytes: refused or run, never a crash.
crashes=0
i=0
while [ $i -lt 60 ]; do
    at=$(((i * 7919 + 13) % (i < 40 ? 3000 : bytes)))
    overwrite "$at" '\377'
    "$program" run -m "$folder/b.gguf" -p 'Hello there' -n 2 >/dev/null 2>"$folder/err" </dev/null
    code=$?
    if [ $code -gt 1 ]; then
        crashes=$((crashes + 1))
        echo "#   byte $at: exit code $code: $(tail -n 3 "$folder/err")" >&2
    fi
    i=$((i + 1))
done
[ $crashes = 0 ]
result $? "60 files with one changed byte: no crash"

echo "1..$n"
exit $failed
