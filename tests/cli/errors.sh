#!/bin/sh
# Mistakes: each gives exit code 1, its exact message on standard error, nothing on standard output.
. "$(dirname "$0")/common/tap.sh"
olmoe=$(tiny olmoe)

# refused NAME ARGS... with the message on standard input (%F = the model's path)
refused() {
    name=$1
    shift
    run "$@"
    is_code 1 "$name: exit 1"
    sed "s|$olmoe|%F|g; s|$work|%W|g" "$work/err" >"$work/e" && mv "$work/e" "$work/err"
    err_is "$name: the message"
    check "$name: nothing on standard output" test ! -s "$work/out"
}

refused "unknown verb" rnu <<'X'
npumoe: there is no verb rnu; did you mean run? (npumoe help lists all)
X
refused "unknown verb, nothing near" abracadabra <<'X'
npumoe: there is no verb abracadabra (npumoe help lists all)
X
refused "mistyped option" run --temprature 1 <<'X'
npumoe: run: unknown option --temprature; did you mean --temperature? (npumoe help run lists all)
X
refused "mistyped option, swapped letters" run --sede 1 <<'X'
npumoe: run: unknown option --sede; did you mean --seed? (npumoe help run lists all)
X
refused "unknown short option" tokenize -Z <<'X'
npumoe: tokenize: unknown option -Z (npumoe help tokenize lists all)
X
refused "an option of llama.cpp" run -ngl 99 <<'X'
npumoe: run: unknown option -ngl: there is no GPU path; leave it out (npumoe help run lists all)
X
refused "value missing" run -p <<'X'
npumoe: run: option -p needs a value: TEXT
X
refused "value for a flag" run --special=yes <<'X'
npumoe: run: option --special takes no value
X
refused "no number" run -n ten <<'X'
npumoe: -n: 'ten' is not a whole number from -1 to 2147483647
X
refused "half a number" run -n 1O0 <<'X'
npumoe: -n: '1O0' is not a whole number from -1 to 2147483647
X
refused "number out of range" run -n -2 <<'X'
npumoe: -n: '-2' is not a whole number from -1 to 2147483647
X
refused "number too large" run -c 99999999999999999999 <<'X'
npumoe: -c: '99999999999999999999' is not a whole number from 0 to 2147483647
X
refused "negative temperature" run --temp -1 <<'X'
npumoe: --temp: '-1' is not a number from 0 to 1000000
X
refused "temperature nan" run --temp nan <<'X'
npumoe: --temp: 'nan' is not a number from 0 to 1000000
X
refused "empty number" run -c '' <<'X'
npumoe: -c: '' is not a whole number from 0 to 2147483647
X
refused "cache type" run -ctk q4_0 <<'X'
npumoe: -ctk: 'q4_0' is not f16, q8_0 or f32
X
refused "logit bias" run -l 12 <<'X'
npumoe: -l: '12' is not ID+BIAS or ID-BIAS, like 15043+1 or 2-inf
X
refused "memory limit" run --memory-limit 8X <<'X'
npumoe: --memory-limit: '8X' is not a size like 4096, 512M, 8G or 1.5T
X
refused "less than a byte" run --memory-limit 0.5 <<'X'
npumoe: --memory-limit: '0.5' is not a size like 4096, 512M, 8G or 1.5T
X
refused "list" bench -p 1,,2 <<'X'
npumoe: -p: '1,,2' is not numbers like 1,2,4 or 512-2048+512 or 8-64*2, each from 0 to 16777216
X
refused "endless range" bench -p '0-8*1' <<'X'
npumoe: -p: '0-8*1' is not numbers like 1,2,4 or 512-2048+512 or 8-64*2, each from 0 to 16777216
X
refused "output format" bench -o xml <<'X'
npumoe: -o: 'xml' is not md, json, jsonl or csv
X
refused "too many words" info a b <<'X'
npumoe: info: unexpected argument 'b' (npumoe help info)
X
refused "a word where none belongs" run -m "$olmoe" hello <<'X'
npumoe: run: unexpected argument 'hello' (npumoe help run)
X
refused "missing model" run -m "$work/none.gguf" -p x <<'X'
npumoe: cannot open '%W/none.gguf': No such file or directory
X
refused "missing prompt file" run -m "$olmoe" -f "$work/none.txt" <<'X'
npumoe: cannot read %W/none.txt: No such file or directory
X
refused "a folder as prompt file" run -m "$olmoe" -f "$work" <<'X'
npumoe: cannot read %W: Is a directory
X
refused "both -p and -f" run -m "$olmoe" -p x -f y <<'X'
npumoe: give -p or -f, not both
X
refused "empty stop string" run -m "$olmoe" -p x -n 1 --stop '' <<'X'
npumoe: stop string 0 is empty
X
refused "logit bias out of range" run -m "$olmoe" -p x -l 99999+1 <<'X'
npumoe: sampler: logit bias for token 99999, but the vocabulary has 640
X
refused "empty prompt without BOS" run -m "$olmoe" -p '' <<'X'
npumoe: the prompt is empty, and this model has no token to begin with
X
refused "prompt longer than -c" run -m "$olmoe" -p 'hello hello hello hello' -c 4 <<'X'
npumoe: the prompt has 12 tokens, the context holds 4: give -c 268 or more, or shorten the prompt
X
run run -m "$olmoe" -p x --isa sse9
is_code 1 "unknown kernels: exit 1"
check "... with those there are" grep -q '^npumoe: .*"sse9".*scalar' "$work/err"
refused "token out of range" logits -m "$olmoe" --tokens 1,100000 <<'X'
npumoe: token 1 is 100000, expected 0..639
X
refused "broken token list" logits -m "$olmoe" --tokens 1,x <<'X'
npumoe: --tokens: not a list of token ids like 1,2,3 or [1, 2, 3]
X
refused "negative token" logits -m "$olmoe" --tokens '[1, -3]' <<'X'
npumoe: --tokens: item 1 is no token id
X
refused "text too short for perplexity" perplexity -m "$olmoe" -p 'hello' <<'X'
npumoe: the text has 3 tokens, one window needs 512: give a longer text or a smaller -c
X
refused "stride too long" perplexity -m "$olmoe" -p 'hello' -c 8 --ppl-stride 8 <<'X'
npumoe: perplexity: --ppl-stride 8 must be below the window of 8 tokens
X
refused "KL without a file" perplexity -m "$olmoe" --kl-divergence <<'X'
npumoe: --kl-divergence needs --kl-divergence-base FILE
X
echo 'no predictions' >"$work/base"
refused "KL with another file" perplexity -m "$olmoe" --kl-divergence --kl-divergence-base "$work/base" <<'X'
npumoe: %W/base is no file of log probabilities (--kl-divergence-base writes one)
X

# From the environment: the variable is named.
NPUMOE_CTX_SIZE=many
export NPUMOE_CTX_SIZE
refused "bad variable" run -m "$olmoe" -p x <<'X'
npumoe: NPUMOE_CTX_SIZE: 'many' is not a whole number from 0 to 2147483647
X
unset NPUMOE_CTX_SIZE

# Broken files, each by every verb that opens one.
printf 'GGUF' >"$work/short.gguf"
head -c 1000 "$olmoe" >"$work/cut.gguf"
echo 'just a text, no model at all' >"$work/text.gguf"
: >"$work/empty.gguf"
for broken in short cut text empty; do
    for verb in run info tokenize logits perplexity bench; do
        case $verb in
        info) run info "$work/$broken.gguf" ;;
        bench) run bench -m "$work/$broken.gguf" ;;
        *) run $verb -m "$work/$broken.gguf" -p x ;;
        esac
        is_code 1 "$verb refuses $broken.gguf"
        check "... and names it in one line" sh -c \
            "[ \$(wc -l <'$work/err') = 1 ] && grep -q '^npumoe: .*$broken.gguf' '$work/err'"
    done
done
run run -m "$olmoe" -p x --memory-limit 1M
is_code 1 "a memory limit of 1 MiB is refused"
check "... with the numbers" grep -q 'needs .* [GM]iB (weights .*), but the memory limit has' "$work/err"

# NaN in the weights of the last tensor: no answer, and logits with a warning.
cp "$olmoe" "$work/nan.gguf"
size=$(wc -c <"$work/nan.gguf")
head -c 4096 /dev/zero | tr '\000' '\377' |
    dd of="$work/nan.gguf" bs=1 seek=$((size - 4096)) conv=notrunc 2>/dev/null
run run -m "$work/nan.gguf" -p x -n 4
is_code 1 "run refuses NaN logits"
check "... and says why" grep -q '^npumoe: .*not a number' "$work/err"
run logits -m "$work/nan.gguf" -p x --all -o "$work/nan.npy"
is_code 0 "logits writes them"
check "... with a warning" grep -q '^warning: [1-9][0-9]* of [0-9]* logits are NaN' "$work/err"
check "... and the file is there" test -s "$work/nan.npy"

# Keys that are wrong: the file is named once; one that is ignored is named too.
perl -0777 -pe 's/olmoe\.block_count\x04/olmoe.block_count\x06/' "$olmoe" >"$work/kind.gguf"
run run -m "$work/kind.gguf" -p x
is_code 1 "a key of the wrong kind is refused"
check "... and the file named once" test "$(grep -o 'kind\.gguf' "$work/err" | wc -l)" -eq 1
perl -0777 -pe 's/(llama\.vocab_size\x04\0\0\0)./$1\x09/s' "$(tiny llama)" >"$work/vocab.gguf"
run logits -m "$work/vocab.gguf" -p x
is_code 0 "a vocab_size that is not the tokenizer's does no harm"
check "... and is named" grep -q 'key llama.vocab_size is not the size of the vocabulary, 608,' "$work/err"
done_testing
