#!/bin/sh
# npumoe run: prompts from everywhere, streams, determinism, and ends of all kinds.
. "$(dirname "$0")/common/tap.sh"
qwen=$(tiny qwen3moe)
llama=$(tiny llama)

run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0
is_code 0 "an answer"
cp "$work/out" "$work/answer"
check "... is on standard output" test -s "$work/answer"
check "... ends with a line feed" sh -c "[ \"\$(tail -c 1 '$work/answer' | od -An -c | tr -d ' ')\" = '\\n' ]"
check "... timings are on standard error" grep -q 'prompt eval time = .* ms / .* tokens ( *[0-9.]* ms per token, *[0-9.]* tokens per second)' "$work/err"
check "... all of them" sh -c "grep -q 'load time' '$work/err' && grep -q ' eval time' '$work/err' && grep -q 'total time' '$work/err'"
check "... no progress bar where there is no terminal" sh -c "! grep -q '#' '$work/err'"

run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 -s 5 --no-perf
check "greedy is the same for every seed" cmp "$work/out" "$work/answer"
check "--no-perf is silent" test ! -s "$work/err"
run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 --warmup
check "... and after a warm-up" cmp "$work/out" "$work/answer"
for t in 1 2 3; do
    run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 -t $t
    check "... and for $t threads" cmp "$work/out" "$work/answer"
done
run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 --precision fp32
cp "$work/out" "$work/answer32"
for ub in 1 2 3; do
    run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 --precision fp32 -ub $ub
    check "... and, in fp32, for chunks of $ub" cmp "$work/out" "$work/answer32"
done
printf 'the sea and the' >"$work/prompt"
run run -m "$qwen" -f "$work/prompt" -n 20 --temp 0
check "-f FILE" cmp "$work/out" "$work/answer"
echo 'the sea and the' | "$NPUMOE" run -m "$qwen" -n 20 --temp 0 >"$work/out" 2>/dev/null
check "standard input, without its last line feed" cmp "$work/out" "$work/answer"
"$NPUMOE" run -m "$qwen" -f - -n 20 --temp 0 <"$work/prompt" >"$work/out" 2>/dev/null
check "-f -" cmp "$work/out" "$work/answer"
NPUMOE_MODEL=$qwen "$NPUMOE" run -p 'the sea and the' -n 20 --temp=0 </dev/null >"$work/out" 2>/dev/null
check "the model from NPUMOE_MODEL, --temp=0" cmp "$work/out" "$work/answer"
NPUMOE_TEMP=5 "$NPUMOE" run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 </dev/null >"$work/out" 2>/dev/null
check "an option wins over the environment" cmp "$work/out" "$work/answer"
NPUMOE_TEMP=0 "$NPUMOE" run -m "$qwen" -p 'the sea and the' -n 20 </dev/null >"$work/out" 2>/dev/null
check "the environment wins over the default" cmp "$work/out" "$work/answer"
run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 --display-prompt
check "--display-prompt" sh -c "[ \"\$(cat '$work/out')\" = \"the sea and the\$(cat '$work/answer')\" ]"
run run -m "$qwen" -p 'the sea\x20and the' -n 20 --temp 0
check "escapes in -p" cmp "$work/out" "$work/answer"
run run -m "$qwen" -p 'the sea\x20and the' -n 20 --temp 0 --no-escape
check "... not with --no-escape" sh -c "! cmp -s '$work/out' '$work/answer'"

run run -m "$qwen" -p 'the sea' -n 40 -s 1
cp "$work/out" "$work/one"
run run -m "$qwen" -p 'the sea' -n 40 -s 1
check "one seed, one answer" cmp "$work/out" "$work/one"
run run -m "$qwen" -p 'the sea' -n 40 -s 2
check "another seed, another answer" sh -c "! cmp -s '$work/out' '$work/one'"

# Stop strings: the answer up to the third character.
cut=$(head -c 3 "$work/answer" | tail -c 1)
run run -m "$qwen" -p 'the sea and the' -n 20 --temp 0 --stop "$cut" --no-perf
check "--stop ends before the text" sh -c "case \"\$(cat '$work/out')\" in *'$cut'*) exit 1 ;; esac"
run run -m "$qwen" -p 'the sea' -n 0 --no-perf
is_code 0 "-n 0 only evaluates"
check "... and writes nothing" test ! -s "$work/out"
run run -m "$qwen" -p 'the sea' -n 5 --ignore-eos -c 16
is_code 0 "--ignore-eos"
run run -m "$qwen" -p 'the sea' -c 12 --ignore-eos --temp 0
is_code 0 "without -n, until the context is full"
check "... which is said" grep -q '^the context of 12 tokens is full; -c gives more$' "$work/err"
run run -m "$llama" -p '' -n 5 --temp 0
is_code 0 "an empty prompt, where the model begins with BOS"
printf 'caf\303 \377\376\200 \000 end' >"$work/broken"
run run -m "$llama" -f "$work/broken" -n 5 --temp 0
is_code 0 "a prompt of broken UTF-8 and a zero byte"
for k in f16 q8_0 f32; do
    run run -m "$qwen" -p 'the sea' -n 5 -ctk $k -ctv $k --temp 0
    is_code 0 "cache type $k"
done
run run -m "$qwen" -p 'the sea' -n 3 --log-file "$work/log" --no-perf
check "--log-file has llama.cpp's form" grep -Eq '^[0-9]+\.[0-9]{2}\.[0-9]{3}\.[0-9]{3} [EWID] ' "$work/log"
check "... and does not talk on standard error" test ! -s "$work/err"

# Without -m: the demo model, wherever the program lies.
for place in models share/npumoe; do
    rm -rf "$work/inst"
    mkdir -p "$work/inst/bin" "$work/inst/$place"
    cp "$NPUMOE" "$work/inst/bin/npumoe"
    cp "$qwen" "$work/inst/$place/npumoe-demo.gguf"
    "$work/inst/bin/npumoe" run -p 'the sea and the' -n 20 --temp 0 --no-perf </dev/null >"$work/out" 2>"$work/err"
    check "without -m: npumoe-*.gguf in ../$place" cmp "$work/out" "$work/answer"
    echo 'model: npumoe-demo.gguf (the demo model that ships with npumoe; use -m for your own)' |
        err_is "... which is said"
done

# Output that cannot be written.
if [ -w /dev/full ]; then
    "$NPUMOE" run -m "$qwen" -p 'the sea' -n 5 >/dev/full 2>"$work/err" </dev/null
    code=$?
    is_code 1 "a full disk gives exit 1"
    check "... and says so" grep -q '^npumoe: cannot write to standard output: No space left on device$' "$work/err"
    "$NPUMOE" help >/dev/full 2>"$work/err"
    code=$?
    is_code 1 "also for help"
else
    skip "no /dev/full"
fi
# A reader that leaves early: the writer ends soon, silently, with exit 1.
{ "$NPUMOE" run -m "$qwen" -p 'the sea' -n 100000 -c 100000 --ignore-eos 2>"$work/err"; echo $? >"$work/code"; } </dev/null | head -c 5 >/dev/null
code=$(cat "$work/code")
is_code 1 "a closed pipe gives exit 1"
check "... without an error message" sh -c "! grep -q '^npumoe:' '$work/err'"

# A background job of a non-interactive shell ignores SIGINT until the program asks for it, so a signal
# that comes too early is lost. Linux says which signals a process catches; elsewhere a second must do.
wait_catching() {
    if [ ! -r "/proc/$1/status" ]; then sleep 1; return; fi
    i=0
    while [ $i -lt 300 ]; do
        case $(sed -n 's/^SigCgt:.*\(.\)$/\1/p' "/proc/$1/status" 2>/dev/null) in [2367abefABEF]) return ;; esac
        sleep 0.1
        i=$((i + 1))
    done
}

# Ctrl-C in the answer: timings, 130.
rm -f "$work/out" # or the last test's text would look like this one's
"$NPUMOE" run -m "$qwen" -p 'the sea' -n 200000 -c 200000 -ctk q8_0 -ctv q8_0 --ignore-eos >"$work/out" 2>"$work/err" </dev/null &
pid=$!
i=0
while [ ! -s "$work/out" ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
kill -INT $pid
wait $pid
code=$?
is_code 130 "Ctrl-C in the answer gives 130"
check "... and the timings" grep -q 'total time' "$work/err"

# Ctrl-C in a long prompt.
awk 'BEGIN { for (i = 0; i < 10000; i++) print "the sea and the wind and the rain" }' >"$work/long"
"$NPUMOE" run -m "$qwen" -f "$work/long" -c 200000 -n 1 >"$work/out" 2>"$work/err" </dev/null &
pid=$!
wait_catching $pid
sleep 0.5 # into the prompt
kill -INT $pid
wait $pid
code=$?
is_code 130 "Ctrl-C in the prompt gives 130"
check "... and no answer" test ! -s "$work/out"

run run -m "$qwen" -f "$work/long" -c 64
is_code 1 "a prompt longer than the context is refused"
check "... with the numbers and advice" grep -Eq '^npumoe: the prompt has [0-9]+ tokens, the context holds 64: give -c [0-9]+ or more, or shorten the prompt$' "$work/err"
done_testing
